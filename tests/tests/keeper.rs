//! Whoever has the hub or its web pages in hand makes nothing weaker, in anybody's name; whoever is root on its
//! machine does, by the same commands as ever.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::thread;

use cordon_model::ids::MachineId;
use cordon_tests::{End, Hospital, Person, Up, cordon, eventually, lacks_programs, lacks_root};

/// Runs a command as the hub's own user, which is what somebody has who took the hub over.
fn as_the_hub(up: &Up, words: &[&str]) -> Result<String, String> {
    let output = Command::new("setpriv")
        .args(["--reuid", "cordon-hub", "--regid", "cordon-hub", "--clear-groups", "--"])
        .arg(cordon())
        .args(words)
        .arg("--state")
        .arg(up.state.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}

fn mode(up: &Up) -> String {
    let policy: toml::Table = up.cordon(&["policy", "show"]).unwrap().parse().unwrap();
    policy["mode"].as_str().unwrap().to_owned()
}

#[test]
fn what_makes_anything_weaker_takes_root_on_the_hubs_machine() {
    if lacks_root("the hub's own user") || lacks_programs(&["setpriv"]) {
        return;
    }
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    let tier = || up.json(&["machines", &name])["tier"].clone();
    assert!(tier().is_null(), "{}", tier());
    // Whoever is allowed everything at the console, which is what a stolen session or page can say.
    let chief = Person::signs_in_as(&up, "chief", "administrator");
    let refused = chief.sets_mode("act");
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    for said in ["mode ask would become act", "cordon policy", "root on the hub"] {
        assert!(refused.contains(said), "{said:?} is not in {refused}");
    }
    // Of a machine nothing is said there either, and the page says so before anybody types.
    let id = up.linked_machine()["id"].as_str().unwrap().to_owned();
    for said in [&[("name", "the-spare-one")][..], &[("name", &*name), ("ring", "us+%7C+6666")]] {
        let [page, refused] = chief.describes(&id, said);
        assert!(page.contains("its name and what people are told too, takes root"), "{page}");
        assert!(refused.starts_with("HTTP/1.1 422"), "{said:?}: {refused}");
        assert!(refused.contains("from the hub alone"), "{said:?}: {refused}");
    }
    // Whoever runs what they like as the hub.
    for words in [
        &["policy", "mode", "act"][..],
        &["policy", "mode", "observe"],
        &["assign", &name, "--tier", "0"],
        &["assign", &name, "--called", "the spare one"],
        &["assign", &name, "--lifeline", "update=outbound tcp 203.0.113.9/32 443"],
        &["assign", &name, "--ring", "Security operations=6666"],
    ] {
        let why = as_the_hub(&up, words).unwrap_err();
        assert!(why.contains("from the hub alone"), "{words:?}: {why}");
    }
    assert_eq!(mode(&up), "ask");
    assert!(tier().is_null(), "{}", tier());
    // Whoever asks before hears whose leave it takes, and for what.
    let preview = up.cordon(&["assign", &name, "--tier", "0", "--preview"]).unwrap();
    for said in ["takes root on the hub's machine", "more would be done there without asking"] {
        assert!(preview.contains(said), "{said:?} is not in {preview}");
    }
    let renamed = up.cordon(&["assign", &name, "--called", "theatre-3", "--preview"]).unwrap();
    assert!(renamed.contains("takes root on the hub's machine"), "{renamed}");
    let preview = up.cordon(&["policy", "mode", "act", "--preview"]).unwrap();
    for said in ["mode: \"ask\" would become \"act\"", "takes root on the hub's machine"] {
        assert!(preview.contains(said), "{said:?} is not in {preview}");
    }
    let same = up.cordon(&["policy", "mode", "ask", "--preview"]).unwrap();
    assert!(same.starts_with("nothing would change"), "{same}");
    let beyond = up.state.path().join("beyond.toml");
    let text =
        up.cordon(&["policy", "show"]).unwrap().replace("group_percent = 5", "group_percent = 51");
    fs::write(&beyond, text).unwrap();
    let why = up.cordon(&["policy", "apply", beyond.to_str().unwrap(), "--preview"]).unwrap_err();
    assert!(why.contains("51 % of a group"), "{why}");
    assert_eq!(mode(&up), "ask", "a preview changes nothing");
    // Root, by the same commands.
    let said = up.cordon(&["policy", "mode", "act"]).unwrap();
    assert!(said.contains("mode is now act (policy of revision 2)"), "{said}");
    up.cordon(&["assign", &name, "--called", &name, "--tier", "0"]).unwrap();
    eventually("it is that", || (tier() == 0).then_some(()));
    let ring = ["--tier", "0", "--ring", "Security operations=5555"];
    up.cordon(&[&["assign", &name, "--called", &name][..], &ring].concat()).unwrap();
    let said = up.json(&["machines", &name])["bedside"].clone();
    assert_eq!(said["ring"][0]["number"], "5555", "{said}");
    // Holding it back takes nobody's leave.
    let done = chief.sets_mode("ask");
    assert!(done.starts_with("HTTP/1.1 303"), "{done}");
    assert_eq!(mode(&up), "ask");
    // And letting a machine go never did.
    up.cordon(&["isolate", &name, "--reason", "test"]).unwrap();
    as_the_hub(&up, &["release", &name, "--reason", "test", "--despite", "test"]).unwrap();
}

/// Reads one message of a control socket, and passes it on.
fn pass_on(
    from: &mut UnixStream,
    to: &mut UnixStream,
    change: impl Fn(&mut [u8]),
) -> io::Result<()> {
    let mut head = [0; 4];
    from.read_exact(&mut head)?;
    let mut body = vec![0; u32::from_be_bytes(head).try_into().unwrap()];
    from.read_exact(&mut body)?;
    change(&mut body);
    to.write_all(&head)?;
    to.write_all(&body)
}

/// Puts itself before the hub, as whoever has the hub's user can, and answers for `other` where it was asked for `one`.
fn lie(socket: &Path, one: MachineId, other: MachineId) {
    let behind = socket.with_extension("behind");
    fs::rename(socket, &behind).unwrap();
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        for asker in listener.incoming() {
            let (mut asker, mut hub) = (asker.unwrap(), UnixStream::connect(&behind).unwrap());
            let swap = |body: &mut [u8]| {
                for at in 0..=body.len().saturating_sub(16) {
                    if body[at..at + 16] == *one.as_bytes() {
                        body[at..at + 16].copy_from_slice(other.as_bytes());
                    }
                }
            };
            // Who hangs up has what it wanted.
            let _ = pass_on(&mut asker, &mut hub, |_| ())
                .and_then(|()| pass_on(&mut hub, &mut asker, swap));
        }
    });
}

#[test]
fn a_stolen_hub_has_roots_words_signed_for_no_other_machine_than_root_named() {
    if lacks_root("the hub's own user") || lacks_programs(&["setpriv"]) {
        return;
    }
    let up = Up::start();
    let machine = up.linked_machine();
    let name = machine["name"].as_str().unwrap().to_owned();
    let id: MachineId = machine["id"].as_str().unwrap().parse().unwrap();
    up.cordon(&["assign", &name, "--tier", "2"]).unwrap();
    let known_to_the_signer = || up.cordon(&["break-glass", "list"]).unwrap();
    let before = known_to_the_signer();
    assert!(before.ends_with("\n1 machines\n"), "{before}");
    let mut other = *id.as_bytes();
    other[15] ^= 1;
    let other: String = other.iter().map(|byte| format!("{byte:02x}")).collect();
    lie(&up.state.path().join("run/hub/hub.sock"), id, other.parse().unwrap());
    for named in [&name, &id.to_string()] {
        let why = up.cordon(&["assign", named, "--tier", "0"]).unwrap_err();
        assert!(why.contains("answers for another machine"), "{named}: {why}");
    }
    assert_eq!(known_to_the_signer(), before, "the signer knows no other machine than before");
}

#[test]
fn a_machine_enrols_as_its_token_says_where_root_made_it_and_else_as_one_of_which_nothing_is_known()
{
    if lacks_root("networks of our own") || lacks_programs(&["ip", "nft", "setpriv"]) {
        return;
    }
    let tier = |hospital: &Hospital| Some(hospital.json(&["machines", "ct-2"])?["tier"].clone());
    let mut hospital = Hospital::build("ka");
    hospital.start_hub();
    hospital.start_machine();
    eventually("it is as root said", || (tier(&hospital)? == 0).then_some(()));
    for said in ["at the signer's machine", "as said ahead at the signer's machine"] {
        assert!(hospital.ledger_says("signer", said), "{said:?} is not in the ledger");
    }
    drop(hospital);

    let mut hospital = Hospital::build("kb");
    hospital.start_hub();
    let output = hospital
        .inside(End::Hub, "setpriv")
        .args(["--reuid", "cordon-hub", "--regid", "cordon-hub", "--clear-groups", "--"])
        .arg(cordon())
        .args(["enrol-token", "--called", "ct-2", "--tier", "0", "--state"])
        .arg(hospital.hubs_state())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    hospital.give_token(&String::from_utf8(output.stdout).unwrap());
    hospital.start_machine();
    eventually("one of which nothing is known is signed", || {
        hospital.ledger_says("signer", "tier unknown").then_some(())
    });
    eventually("it is shown as that", || tier(&hospital)?.is_null().then_some(()));
    assert!(!hospital.ledger_says("signer", "as said ahead"));
}
