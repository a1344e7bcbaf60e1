//! The tree itself is tested: what a reader may rely on everywhere.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Files under version control that end in one of `extensions`.
fn files(extensions: &[&str]) -> Vec<PathBuf> {
    let output = Command::new("git").arg("ls-files").current_dir(root()).output().unwrap();
    assert!(output.status.success(), "these tests read the tree by git");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| root().join(line))
        .filter(|path| path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)))
        .filter(|path| path.exists())
        .collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// 500 lines of one idea; 800 with the tests beside it.
const MOST_LINES: usize = 800;

#[test]
fn no_file_outgrows_one_idea() {
    let long: Vec<_> = files(&["rs"])
        .into_iter()
        .map(|path| (read(&path).lines().count(), path))
        .filter(|(lines, _)| *lines > MOST_LINES)
        .collect();
    assert!(long.is_empty(), "split these: {long:?}");
}

#[test]
fn every_source_file_opens_by_saying_what_it_is() {
    let silent: Vec<_> =
        files(&["rs"]).into_iter().filter(|path| !read(path).starts_with("//!")).collect();
    assert!(silent.is_empty(), "add an opening paragraph to {silent:?}");
}

#[test]
fn no_room_is_a_catch_all() {
    let vague = ["utils", "helpers", "common", "manager", "misc"];
    let found: Vec<_> = files(&["rs"])
        .into_iter()
        .filter(|path| path.file_stem().is_some_and(|stem| vague.iter().any(|word| stem == *word)))
        .collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn unsafe_code_is_only_where_the_kernel_is_spoken_to() {
    let word = concat!("unsafe", " ");
    let found: Vec<_> = files(&["rs"])
        .into_iter()
        .filter(|path| {
            !["kernel.rs", "contain/urgency.rs", "contain/resident.rs"]
                .iter()
                .any(|kernels| path.ends_with(kernels))
        })
        .filter(|path| {
            read(path).lines().any(|line| {
                let code = line.split("//").next().unwrap_or("");
                code.contains(&format!("{word}{{")) || code.contains(&format!("{word}fn"))
            })
        })
        .filter(|path| !path.ends_with("tidy.rs"))
        .collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn every_crate_but_the_agent_forbids_unsafe_code() {
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("agent") {
            continue;
        }
        let main = ["src/lib.rs", "src/main.rs"].map(|file| path.join(file));
        let Some(file) = main.iter().find(|file| file.exists()) else { continue };
        assert!(read(file).contains("#![forbid(unsafe_code)]"), "{}", file.display());
    }
}

#[test]
fn nothing_is_left_to_do_in_the_code() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    let found: Vec<_> = files(&["rs", "c", "md", "toml"])
        .into_iter()
        .filter(|path| marks.iter().any(|mark| read(path).contains(mark)))
        .collect();
    assert!(found.is_empty(), "{found:?}");
}

/// One that is skipped in a way of its own would be green where [`cordon_tests::MUST_RUN`] says that it must
/// run.
#[test]
fn every_test_that_is_skipped_says_so_in_the_one_way() {
    let word = concat!("\"skip", "ped:");
    let found: Vec<_> = files(&["rs"])
        .into_iter()
        .filter(|path| !path.ends_with("tests/skip.rs") && read(path).contains(word))
        .collect();
    assert!(found.is_empty(), "use `cordon_tests::skip` or `cannot_be_had` in {found:?}");
}

#[test]
fn every_dependency_has_an_accepted_licence() {
    let deny: toml::Value = toml::from_str(&read(&root().join("deny.toml"))).unwrap();
    let allowed: Vec<spdx::Licensee> = deny["licenses"]["allow"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| spdx::Licensee::parse(text.as_str().unwrap()).unwrap())
        .collect();
    let banned: Vec<&str> = deny["bans"]["deny"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ban| ban["crate"].as_str().unwrap())
        .collect();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if banned.contains(&name) {
            wrong.push(format!("{name} is banned by deny.toml"));
        }
        let licence = package["license"].as_str().unwrap_or("none stated");
        let accepted = spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX).is_ok_and(|e| {
            e.evaluate(|req| allowed.iter().any(|licensee| licensee.satisfies(req)))
        });
        if !accepted {
            wrong.push(format!("{name}: {licence}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
