//! Builds the program that runs inside the kernel (`bpf/sensor.bpf.c`) with clang.
//!
//! A machine without clang still gets an agent: one that says, at build and at run, that it sees less
//! (through the proc connector). A clang that is there and fails is an error: nobody should lose a
//! sensor to a typing mistake.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(cordon_ebpf)");
    println!("cargo::rerun-if-changed=bpf/sensor.bpf.c");
    println!("cargo::rerun-if-changed=bpf/kernel.h");
    println!("cargo::rerun-if-env-changed=CLANG");
    println!("cargo::rerun-if-env-changed=PATH");
    if variable("CARGO_CFG_TARGET_OS") != "linux" {
        return;
    }
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let target = match variable("CARGO_CFG_TARGET_ENDIAN").as_str() {
        "big" => "bpfeb",
        _ => "bpfel",
    };
    let object = PathBuf::from(variable("OUT_DIR")).join("sensor.bpf.o");
    let built = Command::new(&clang)
        .args(["-target", target, "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"])
        .args(["-c", "bpf/sensor.bpf.c", "-o"])
        .arg(&object)
        .output();
    match built {
        Ok(output) if output.status.success() => println!("cargo::rustc-cfg=cordon_ebpf"),
        Ok(output) => {
            for line in String::from_utf8_lossy(&output.stderr).lines() {
                println!("cargo::error={clang}: {line}");
            }
            println!("cargo::error=`{clang}` could not build bpf/sensor.bpf.c for `{target}`");
        }
        Err(error) => println!(
            "cargo::warning=built without the eBPF sensor, because `{clang}` did not run ({error}): \
             the agent will see fewer processes and no connections. \
             To have it: `sudo apt-get install --no-install-recommends clang`, then build again"
        ),
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}
