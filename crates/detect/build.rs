//! Makes a word that tells this version of the engine from all others, for what is stored of compiled rules.

use std::error::Error;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let mut files = vec![PathBuf::from("Cargo.toml")];
    // Versions of what the engine is built on; where only the crate is built there is none.
    let lock = Path::new("../../Cargo.lock");
    if lock.exists() {
        files.push(lock.to_owned());
    }
    below(Path::new("src"), &mut files)?;
    below(Path::new("data"), &mut files)?;
    // What the words of `model` are stored as is a part of it: a level by its place among the levels.
    let words = Path::new("../model/src");
    if words.exists() {
        below(words, &mut files)?;
        println!("cargo:rerun-if-changed={}", words.display());
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    let of_model = files.iter().filter(|file| file.starts_with("../model")).count();
    println!("cargo:rustc-env=CORDON_DETECT_OF_MODEL={of_model}");
    for file in files {
        println!("cargo:rerun-if-changed={}", file.display());
        (file.as_os_str(), fs::read(&file)?).hash(&mut hasher);
    }
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rerun-if-changed=data");
    println!("cargo:rustc-env=CORDON_DETECT_SOURCES={:016x}", hasher.finish());
    Ok(())
}

fn below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { below(&path, files)? } else { files.push(path) }
    }
    Ok(())
}
