//! Lists the pack's rules for `src/lib.rs`: every `.yml` below `linux/` and `windows/`, in the order of
//! their paths. The test events beside them are left out, so that no binary carries them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// The directories that hold rules.
const SYSTEMS: [&str; 2] = ["linux", "windows"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let home = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let mut rules = Vec::new();
    for system in SYSTEMS {
        // Cargo looks at a directory with all that is below it.
        println!("cargo::rerun-if-changed={system}");
        collect(&home.join(system), &mut rules)?;
    }
    rules.sort();

    let mut list = String::from("&[\n");
    for path in &rules {
        let origin = path.strip_prefix(&home)?.to_string_lossy().replace('\\', "/");
        writeln!(list, "    ({origin:?}, include_str!({:?})),", path.to_string_lossy())?;
    }
    list.push(']');
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("list.rs"), list)?;
    Ok(())
}

fn collect(directory: &Path, rules: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, rules)?;
        } else if path.extension().is_some_and(|extension| extension == "yml") {
            rules.push(path);
        }
    }
    Ok(())
}
