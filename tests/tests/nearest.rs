//! Who stands in front of a machine that is cut off is told where the next one of its kind is that works, and is
//! sent to none that does not.

use cordon_tests::{Hospital, eventually, lacks_root};

#[test]
fn the_next_machine_that_works_is_named_until_it_is_cut_off_too() {
    if lacks_root("a hub and a machine, each in a network of its own,") {
        return;
    }
    let mut hospital = Hospital::build("nx");
    hospital.start_hub_on_a_machine("ct-1");
    hospital.start_machine();
    eventually("both are linked", || {
        let machines = hospital.json(&["machines"])?;
        let linked = machines.as_array()?.iter().filter(|machine| machine["is_linked"] == true);
        (linked.count() == 2).then_some(())
    });
    for (name, place) in [("ct-1", "ground floor, room 0.12"), ("ct-2", "first floor, room 1.07")] {
        let what = ["assign", name, "--tier", "0", "--kind", "CT console", "--place", place];
        hospital.at_hub(&[&what[..], &["--instead", "the X-ray room"]].concat()).unwrap();
    }
    let isolate = |name| {
        hospital.at_hub(&["isolate", name, "--mode", "segment", "--reason", "a test"]).unwrap();
    };
    isolate("ct-2");
    let told = eventually("the other is named, and where it stands", || {
        let told = hospital.notice();
        (told.contains("ct-1") && told.contains("room 0.12")).then_some(told)
    });
    println!("{told}");
    // It goes as far as the hub's own machine.
    isolate("ct-1");
    let told = eventually("it is named no more, and people are sent elsewhere", || {
        let told = hospital.notice();
        (!told.contains("ct-1") && told.contains("the X-ray room")).then_some(told)
    });
    println!("{told}");
    hospital
        .at_hub(&["release", "ct-1", "--reason", "it was nothing", "--despite", "a test"])
        .unwrap();
    eventually("it works again", || hospital.notice().contains("ct-1").then_some(()));
}
