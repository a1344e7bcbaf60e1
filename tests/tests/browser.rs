//! The console in a real browser: signed in by the one-time link, an attack seen as it happens, the machine
//! isolated and released, with JavaScript and without it; nothing leaves the console's own address.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use cordon_tests::{Attack, Up, cannot_be_had, cordon, lacks_root, root, skip};

/// Whether there is no browser to test with; says why.
fn lacks_browser() -> bool {
    // One at a time: an installation first removes what another just put there.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let chromium =
        std::env::var("CORDON_CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
    if !Path::new(&chromium).exists() {
        skip(&format!("there is no {chromium} (CORDON_CHROMIUM names another)"));
        return true;
    }
    for program in ["node", "npm"] {
        let is_there = Command::new(program).arg("--version").stdout(Stdio::null()).status();
        if !is_there.is_ok_and(|status| status.success()) {
            skip(&format!("there is no {program}"));
            return true;
        }
    }
    let directory = root().join("tests/browser");
    if directory.join("node_modules/playwright-core/package.json").exists() {
        return false;
    }
    let npm = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&directory)
        .status();
    let is_installed = npm.is_ok_and(|status| status.success());
    if !is_installed {
        cannot_be_had("npm could not install playwright-core: is its registry in reach?");
    }
    !is_installed
}

fn drive(script: &str) {
    if lacks_root("the console in a browser") || lacks_browser() {
        return;
    }
    let up = Up::start();
    let attack = Attack::new(&format!("browser-{script}"));
    let pictures = cordon().parent().unwrap().join("pictures");
    let driven = up
        .inside("node")
        .arg(root().join("tests/browser/console.mjs"))
        .args([&up.link, script])
        .arg(attack.program())
        .arg(&pictures)
        .output()
        .unwrap();
    print!("{}", String::from_utf8_lossy(&driven.stdout));
    let said = String::from_utf8_lossy(&driven.stderr);
    assert!(driven.status.success(), "{said}\nPictures: {}", pictures.display());
}

#[test]
fn a_person_sees_an_attack_live_and_isolates_and_releases_the_machine() {
    drive("on");
}

#[test]
fn a_person_without_javascript_can_do_the_same() {
    drive("off");
}
