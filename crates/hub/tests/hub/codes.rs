//! Break-glass codes at a running hub: their hashes reach the machine, an opening reaches people.

use cordon_hub::signer::Client;
use cordon_hub::signer::codes::{Asker, CodesAsk};
use cordon_model::action::Action;
use cordon_model::break_glass::BreakGlass;
use cordon_model::finding::{Level, OPENED_BY_CODE};
use cordon_model::ids::MeasureId;
use cordon_model::measure::{Isolation, MeasureState, Origin, Receipt};
use cordon_model::record::Deed;
use cordon_model::signed::{Verified, seal};
use cordon_model::time::{BootId, BootNanos, UtcNanos};
use cordon_model::wire::{FromAgent, FromHub, Report, Status};
use cordon_respond::hub_core::Notice;
use ed25519_dalek::VerifyingKey;

use super::support::{Machine, Site, admin, finding, until};

/// Waits for the hashes of this machine's codes.
async fn codes_of(machine: &mut Machine) -> Verified<BreakGlass> {
    loop {
        if let FromHub::BreakGlass(envelope) = machine.hear().await.unwrap() {
            let key = VerifyingKey::from_bytes(&machine.enrolled.command_key).unwrap();
            return envelope.open(&key).unwrap();
        }
    }
}

fn status(break_glass: u64) -> FromAgent {
    FromAgent::Status(Status {
        at_boot: BootNanos(1),
        holds: cordon_model::holds::Holds::NOTHING,
        rules: 1,
        events: 0,
        lost: 0,
        break_glass,
        guidance: 0,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_brought_its_codes_and_again_until_it_has_them() {
    let mut site = Site::start().await;
    let mut machine = site.machine("office-1").await;
    let codes = codes_of(&mut machine).await;
    assert_eq!(codes.machine, machine.id());
    // It lost them, or never had room: said by its status, over another link, also of another hub process.
    site.restart().await;
    machine.connect().await.unwrap();
    machine.say(&status(0)).await;
    assert_eq!(codes_of(&mut machine).await, codes);
    // People want others: it is sent those.
    site.hub().renew_codes(machine.id(), "the sheet was lost", &admin()).await.unwrap();
    assert!(codes_of(&mut machine).await.revision > codes.revision);
    let view = site.hub().machine(machine.id()).await.unwrap();
    assert!(view.status.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_needs_new_codes_does_not_wait_for_a_whole_ward_that_enrols() {
    let site = Site::start().await;
    let mut ward = Vec::new();
    for number in 0..16 {
        let token = site.token(None).await;
        ward.push(Machine::enrol(&token, &format!("bed-{number}")).await.unwrap());
    }
    let last = ward[15].id();
    site.hub().renew_codes(last, "the sheet was lost", &admin()).await.unwrap();
    let signer = Client::connect(&site.directory.path().join("signer.sock")).await.unwrap();
    let rows = signer.codes_rows(None).await.unwrap();
    let made = rows.iter().filter(|row| row.revision > 0).count();
    assert!(made < 16, "{made} machines had codes before the person who asked for them");
    assert!(rows.iter().any(|row| row.machine == last && row.revision > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_by_a_code_opens_an_incident_tells_people_and_is_in_the_ledger() {
    let site = Site::start().await;
    let mut machine = site.machine("office-1").await;
    let codes = codes_of(&mut machine).await;
    let receipt = Receipt {
        machine: machine.id(),
        measure: MeasureId::new(UtcNanos::now(), [5; 10]),
        origin: Origin::BreakGlass { revision: codes.revision, code: 3 },
        action: Action::Isolate(Isolation::Watch),
        state: MeasureState::Verified,
        proof: None,
        lease_ends: Some(BootNanos(9)),
        boot: BootId("boot".into()),
        at_boot: BootNanos(2),
        at: UtcNanos::now(),
        sockets_cut: 0,
        done: Vec::new(),
        spared: Vec::new(),
    };
    let sealed = seal(&receipt, &machine.receipt_key).unwrap();
    machine.report(Report::Receipt(sealed)).await;
    let mut finding = finding(&machine.host, Level::High, 1);
    finding.rule.id = OPENED_BY_CODE.into();
    machine.report(Report::Finding(Box::new(finding))).await;
    until("an incident is open", || async {
        !site
            .hub()
            .incidents(Default::default(), &Default::default())
            .await
            .unwrap()
            .items
            .is_empty()
    })
    .await;
    let told = site.hub().attention();
    assert!(
        told.iter().any(|one| matches!(
            one.notice,
            Notice::OpenedByCode { machine: of, code: 3, .. } if of == machine.id()
        )),
        "{told:?}"
    );
    // People opened it: nobody is asked whether to cut it off for that.
    assert!(site.hub().approvals(true).await.unwrap().is_empty());
    let view = site.hub().machine(machine.id()).await.unwrap();
    assert_eq!(view.row.isolation, Some(Isolation::Watch));
    let deed = Deed::OpenedByCode { revision: codes.revision, code: 3 };
    until("the ledger has it", || async {
        let records = site.hub().ledger_records(0..1_000).await.unwrap_or_default();
        records.iter().any(|entry| entry.record.deed == deed)
    })
    .await;
    // The signer knows that the code is used up.
    let signer = Client::connect(&site.directory.path().join("signer.sock")).await.unwrap();
    until("the signer knows", || async {
        let by = Asker { name: "ann".into(), reason: "test".into() };
        let ask = CodesAsk::Sheet { machine: machine.id(), by };
        let sheet = signer.show_codes(ask).await.unwrap();
        sheet.codes.iter().all(|(number, ..)| *number != 3)
    })
    .await;
}
