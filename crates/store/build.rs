//! A new migration is a new file: without this, cargo would not see that the embedded set has changed.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
