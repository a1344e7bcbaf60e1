//! Names of lifelines at a running hub, resolved by this system's own resolver: in a mount namespace where
//! its hosts file is the test's.

use std::net::IpAddr;
use std::path::Path;

use cordon_hub::HubError;
use cordon_hub::view::AssignmentDraft;
use cordon_model::asset::{Assignment, ClinicalTier, Direction, PortRange, Transport};
use cordon_model::named::{NamedDraft, NamedLifeline, Service};
use cordon_model::record::Deed;
use cordon_model::wire::FromHub;
use cordon_respond::hub_core::Notice;
use cordon_respond::names::Pin;
use ed25519_dalek::VerifyingKey;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::support::{Machine, Site, admin, until};

/// Runs a test where `/etc/hosts` is a file of its own, which it may write to. All threads of its runtime are
/// children of the one that left the others' mounts.
fn with_names<F: Future<Output = ()>>(test: impl FnOnce(Names) -> F + Send + 'static) {
    if cordon_tests::lacks_root("a hosts file of its own") {
        return;
    }
    let thread = std::thread::spawn(move || {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hosts");
        std::fs::write(&file, "").unwrap();
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some(&file), "/etc/hosts", none, MsFlags::MS_BIND, none).unwrap();
        let nobody = folder.path().join("resolv.conf");
        // Nobody answers there, and says so at once.
        std::fs::write(&nobody, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").unwrap();
        mount(Some(&nobody), "/etc/resolv.conf", none, MsFlags::MS_BIND, none).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(test(Names(Path::new("/etc/hosts"))));
    });
    thread.join().unwrap();
}

struct Names(&'static Path);

impl Names {
    fn say(&self, lines: &[&str]) {
        std::fs::write(self.0, lines.join("\n") + "\n").unwrap();
    }
}

fn draft(lifelines: &[(&str, u16, &str)]) -> AssignmentDraft {
    let named = lifelines.iter().map(|(host, port, within)| NamedDraft {
        named: NamedLifeline {
            name: format!("{host} at {port}"),
            host: host.parse().unwrap(),
            within: within.split(' ').filter_map(|network| network.parse().ok()).collect(),
        },
        at: vec![],
        services: vec![Service {
            transport: Transport::Tcp,
            ports: PortRange::one(*port),
            direction: Direction::Outbound,
            signed_off_by: (*port == 445).then(|| "Dr A".into()),
        }],
    });
    AssignmentDraft {
        tier: Some(ClinicalTier::None),
        named: named.collect(),
        ..AssignmentDraft::default()
    }
}

/// The next assignment that the machine is sent.
async fn assigned(machine: &mut Machine) -> Assignment {
    loop {
        if let FromHub::Assignment(envelope) = machine.hear().await.unwrap() {
            let key = VerifyingKey::from_bytes(&machine.enrolled.command_key).unwrap();
            return envelope.open::<Assignment>(&key).unwrap().into_document();
        }
    }
}

fn pinned(assignment: &Assignment) -> Vec<String> {
    assignment.lifelines.iter().map(|line| line.peer.addr().to_string()).collect()
}

#[test]
fn what_a_person_signed_for_reaches_the_machine_and_the_rest_reaches_people() {
    with_names(|names| async move {
        names.say(&["10.0.0.1 pacs.test", "fd00::1 pacs.test", "10.0.0.5 files.test"]);
        let site = Site::start().await;
        let hub = site.hub();
        let mut machine = site.machine("ct-1").await;
        let draft = draft(&[("pacs.test", 104, "10.0.0.0/16"), ("files.test", 445, "10.0.0.0/16")]);
        hub.assign(machine.id(), draft, &admin()).await.unwrap();
        let first = loop {
            let assignment = assigned(&mut machine).await;
            if !assignment.names.is_empty() {
                break assignment;
            }
        };
        assert_eq!(pinned(&first), ["10.0.0.1", "fd00::1", "10.0.0.5"]);

        names.say(&["10.0.0.2 pacs.test", "2001:db8::1 pacs.test", "10.0.0.6 files.test"]);
        hub.look_at_names(None, &admin()).await.unwrap();
        let second = assigned(&mut machine).await;
        assert_eq!(pinned(&second), ["10.0.0.1", "fd00::1", "10.0.0.5", "10.0.0.2"]);
        assert_eq!(second.revision, first.revision + 1);
        let id = machine.id();
        let row = hub.machines().into_iter().find(|row| row.id == id).unwrap();
        let waits: Vec<String> = row.to_confirm.iter().map(|waits| waits.command(&row)).collect();
        assert_eq!(
            waits,
            [
                // Of two that are called so the signer takes none for the other.
                format!(
                    "cordon lifelines confirm {id} files.test 10.0.0.6 --signed-off-by 'YOUR NAME'"
                ),
                format!("cordon lifelines confirm {id} pacs.test 2001:db8::1"),
            ]
        );
        let told = hub.attention();
        let is_told = |notice: &Notice| matches!(notice, Notice::NameMoved { machine: of, commands, .. } if *of == machine.id() && *commands == waits);
        assert_eq!(told.iter().filter(|one| is_told(&one.notice)).count(), 1, "{told:?}");
        // Looked at again with the same answer: nothing is signed, told or written again.
        hub.look_at_names(None, &admin()).await.unwrap();
        let said = |records: &[cordon_evidence::Entry]| {
            let all = records.iter().map(|entry| &entry.record);
            let of = |deed: Deed, words: &'static str| {
                all.clone().filter(|one| one.deed == deed && one.detail.contains(words)).count()
            };
            (
                of(Deed::Assigned, "pacs.test also answers with 10.0.0.2"),
                of(Deed::NameChanged, "files.test also answers with 10.0.0.6"),
                of(Deed::NameChanged, "pacs.test also answers with 2001:db8::1"),
            )
        };
        until("the ledger has it, once", || async {
            let records = hub.ledger_records(0..1_000).await.unwrap_or_default();
            said(&records) == (1, 1, 1)
        })
        .await;

        // A person confirms one: it is theirs to answer for, by name.
        let add = ["10.0.0.6".parse::<IpAddr>().unwrap()].into();
        let pin =
            Pin { host: "files.test".parse().unwrap(), add, drop: [].into(), signed_off_by: None };
        hub.confirm_addresses(machine.id(), pin, &admin()).await.unwrap();
        let third = assigned(&mut machine).await;
        let last = third.lifelines.last().unwrap();
        assert_eq!(last.peer.addr().to_string(), "10.0.0.6");
        assert!(last.signed_off_by.as_deref().unwrap().contains("test"), "{last:?}");
        let row = hub.machines().into_iter().find(|row| row.id == machine.id()).unwrap();
        assert_eq!(row.to_confirm.len(), 1);
    });
}

#[test]
fn no_answer_takes_nothing_away_and_what_never_answered_is_not_declared() {
    with_names(|names| async move {
        names.say(&["10.0.0.1 pacs.test"]);
        let mut site = Site::start().await;
        let machine = site.machine("ct-1").await;
        let wanted = draft(&[("pacs.test", 104, "10.0.0.0/16")]);
        site.hub().assign(machine.id(), wanted.clone(), &admin()).await.unwrap();
        let unknown = draft(&[("pasc.test", 104, "10.0.0.0/16")]);
        let refused = site.hub().assign(machine.id(), unknown.clone(), &admin()).await.unwrap_err();
        assert!(
            matches!(&refused, HubError::Invalid { why, .. } if why.contains("can't be resolved")),
            "{refused}"
        );
        let minute = std::time::Duration::from_secs(60);
        let token = site.hub().create_enrolment_token(unknown, minute, &admin()).await;
        assert!(token.is_err(), "nor for a machine that is still to come");

        names.say(&[]);
        site.hub().look_at_names(None, &admin()).await.unwrap();
        let now = site.hub().names(machine.id()).unwrap().remove(0);
        assert!(now.trouble.is_some() && now.answered_at.is_some(), "{now:?}");
        assert_eq!(now.pinned, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        // Said anew by a person while names are away: what is pinned stays.
        let again = site.hub().assign(machine.id(), wanted, &admin()).await.unwrap();
        assert_eq!(pinned(&again), ["10.0.0.1"]);
        site.restart().await;
        site.hub().look_at_names(Some(machine.id()), &admin()).await.unwrap();
        let now = site.hub().names(machine.id()).unwrap().remove(0);
        assert_eq!((now.pinned.len(), now.answered_at), (1, None), "{now:?}");
    });
}

#[test]
fn what_is_confirmed_while_a_resolver_is_slow_stays_pinned() {
    with_names(|names| async move {
        names.say(&["10.0.0.1 pacs.test"]);
        let site = Site::start().await;
        let hub = site.hub().clone();
        let machine = site.machine("ct-1").await;
        let wanted = draft(&[("pacs.test", 104, "10.0.0.0/16")]);
        hub.assign(machine.id(), wanted.clone(), &admin()).await.unwrap();

        // From now on a resolver is asked, which hears and does not answer. An address of its own, so that
        // nobody else's is taken.
        names.say(&[]);
        let resolver = tokio::net::UdpSocket::bind("127.83.9.1:53").await.unwrap();
        let slow = "nameserver 127.83.9.1\noptions timeout:4 attempts:1\n";
        std::fs::write("/etc/resolv.conf", slow).unwrap();
        let (of, id) = (hub.clone(), machine.id());
        let assigning = tokio::spawn(async move { of.assign(id, wanted, &admin()).await });
        let within = std::time::Duration::from_secs(10);
        let asked = tokio::time::timeout(within, resolver.recv_from(&mut [0; 512])).await;
        asked.expect("the resolver is asked").unwrap();

        let add = ["10.0.0.9".parse::<IpAddr>().unwrap()].into();
        let pin =
            Pin { host: "pacs.test".parse().unwrap(), add, drop: [].into(), signed_off_by: None };
        hub.confirm_addresses(id, pin, &admin()).await.unwrap();
        assert!(!assigning.is_finished(), "the name is still looked up");
        let assignment = assigning.await.unwrap().unwrap();
        assert_eq!(pinned(&assignment), ["10.0.0.1", "10.0.0.9"]);
    });
}
