//! An order that a machine can't take now is neither done nor given up: it is told, sent again, and carried out
//! when it can be.

use std::fs;

use cordon_tests::{Up, Where, eventually, lacks_root};

/// Marks the assignment, so that it is seen where the helper keeps it.
const GROUP: &str = "a-group-of-this-test";

#[test]
fn an_order_that_the_helper_can_not_write_down_is_sent_again_and_carried_out_when_it_can() {
    if lacks_root("`cordon up`") {
        return;
    }
    let up = Up::start_in(Where::Container, &[]);
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    up.cordon(&["assign", &name, "--tier", "0", "--group", GROUP]).unwrap();
    let folder = up.state.path().join("helper");
    eventually("the helper has its assignment", || {
        let kept = fs::read(folder.join("state.cbor")).ok()?;
        kept.windows(GROUP.len()).any(|part| part == GROUP.as_bytes()).then_some(())
    });

    // As on a disk that has failed: what is there can be read, and nothing can be written.
    let inside = |program: &str, arguments: &[&str]| {
        let status = up.inside(program).args(arguments).arg(&folder).status().unwrap();
        assert!(status.success(), "{program} {arguments:?}");
    };
    inside("mount", &["--bind", folder.to_str().unwrap()]);
    inside("mount", &["-o", "remount,bind,ro"]);
    let said = up.cordon(&["isolate", &name, "--reason", "test", "--no-wait"]).unwrap();
    assert!(said.contains("is signed"), "{said}");
    let tries = || up.log().matches("an order can't be taken yet").count();
    eventually("it is sent again and again", || (tries() >= 3).then_some(()));
    assert!(!up.packet_rules().contains("table inet cordon"), "nothing is done that is not kept");
    assert_ne!(up.json(&["machines"])[0]["truth"], "verified");

    inside("umount", &[]);
    eventually("it is carried out and shown", || {
        (up.json(&["machines"])[0]["truth"] == "verified").then_some(())
    });
    assert!(up.packet_rules().contains("table inet cordon"));
}
