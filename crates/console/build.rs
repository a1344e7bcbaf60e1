//! Says whether the style sheet from npm is there to be embedded. Without it the console is plainer, and
//! a bare `cargo build` works.

use std::path::Path;

fn main() {
    let vendored = Path::new("assets/vendor/nhsuk.css");
    // Naming a file that does not exist makes Cargo run this every time; the directory always exists.
    println!("cargo::rerun-if-changed=assets");
    println!("cargo::rustc-check-cfg=cfg(has_nhsuk)");
    if vendored.exists() {
        println!("cargo::rustc-cfg=has_nhsuk");
    }
}
