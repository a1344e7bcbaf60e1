//! The drill, as its user runs it: the goals that hold whatever the machine's speed.
//!
//! How fast a machine is isolated is measured by `make bench`; here only what must never happen is
//! judged, and that the worm does not win.

use std::process::Command;

use cordon_tests::{cordon, lacks_root};

#[test]
fn an_outbreak_stays_with_its_first_victims_and_no_lifeline_breaks() {
    if lacks_root("the outbreak drill") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let picture = directory.path().join("outbreak.svg");
    let output = Command::new(cordon())
        .args([
            "drill",
            "outbreak",
            "--machines",
            "20",
            "--runs",
            "3",
            "--cut-off-runs",
            "1",
            "--json",
        ])
        .arg("--picture")
        .arg(&picture)
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    println!("{report:#}");
    assert_eq!(report["machines"], 20);
    assert_eq!(report["infected_without"], 20, "the worm must be a real one");
    assert!(report["infected_with"].as_u64().unwrap() <= 2);
    assert!(report["n"].as_u64().unwrap() >= 3, "every run ends in an isolation");
    assert_eq!(report["isolated_uninfected"], 0);
    assert_eq!(report["lifelines_broken"], 0);
    assert_eq!(report["probes_wrong"], 0);
    assert!(report["lifelines"]["echoes"].as_u64().unwrap() > 0);
    let cut_off = &report["hub_cut_off"];
    assert!(cut_off["n"].as_u64().unwrap() >= 1, "a machine cut off from its hub isolates itself");
    assert!(cut_off["infected_with"].as_u64().unwrap() <= 2);
    let svg = std::fs::read_to_string(picture).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("without Cordon"));
}
