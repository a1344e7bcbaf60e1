//! Memory that a process of Cordon's has and does not need any more, given back to the machine.
//!
//! The one idea: whoever waits nearly always is to cost what waiting costs. A start touches most of the program once
//! (arguments, logs, what is on disk), and each touch has the kernel map whatever lies around it; all of that counts as
//! this process's for as long as it lives, though it never looks there again. So it is let go of once the start is over,
//! and after rare large work; what is needed again is found in the system's cache of files.

#![allow(
    unsafe_code,
    reason = "gives back freed memory, and pages of files that can be read again"
)]

/// Gives back what was freed of the heap, and the pages of the program's file. Those that are needed still are mapped
/// again as they are used, some microseconds each. **Not on the way of an isolation.**
pub fn give_back() {
    // SAFETY: takes a number only; what is in use is not touched.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for (start, length) in as_in_their_files(&maps) {
        // SAFETY: the kernel just said that these are pages of a file that nobody may write to and nobody has written to:
        // whoever needs one has it read from the file again, as it was. An error leaves them where they are.
        unsafe {
            libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED);
        }
    }
}

/// Where pages of files lie that are as they are there, and how long: of `/proc/PID/smaps` (proc_pid_smaps(5)) the mappings
/// that can't be written to and of which no page is the process's own, in memory or swapped out. One that was written to when
/// the program was loaded, and only then made unwritable, has such pages.
fn as_in_their_files(maps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut seen = None;
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some(first) = fields.next() else { continue };
        let Some(field) = first.strip_suffix(':') else {
            seen = range(first).zip(fields.next()).filter(|(_, rights)| {
                let is_of_file = fields.nth(2).is_some_and(|file| file != "0");
                rights.starts_with('r') && !rights.contains('w') && is_of_file
            });
            continue;
        };
        match (field, fields.next()) {
            ("Anonymous" | "Swap", kibibytes) if kibibytes != Some("0") => seen = None,
            // The last of each.
            ("VmFlags", _) => found.extend(seen.take().map(|(range, _)| range)),
            _ => {}
        }
    }
    found
}

fn range(text: &str) -> Option<(usize, usize)> {
    let (start, end) = text.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    let start = number(start)?;
    Some((start, number(end)?.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mapping as the kernel tells of one.
    fn told(range: &str, rights: &str, file: &str, own: [u32; 2]) -> String {
        let [anonymous, swap] = own;
        format!(
            "{range} {rights} 00000000 fe:00 {file}\nSize:   8 kB\nRss:   8 kB\nAnonymous:   {anonymous} kB\n\
             Swap:   {swap} kB\nSwapPss:   0 kB\nTHPeligible:   0\nVmFlags: rd mr\n"
        )
    }

    #[test]
    fn only_what_is_in_a_file_as_it_is_is_let_go_of() {
        let program = "123  /usr/bin/cordon-helper";
        let maps: String = [
            told("5500-5600", "r--p", program, [0, 0]),
            told("5600-5800", "r-xp", program, [0, 0]),
            told("5800-5900", "r--p", program, [345, 0]),
            told("5900-5a00", "r--p", program, [0, 8]),
            told("5a00-5b00", "rw-p", program, [0, 0]),
            told("5b00-5c00", "rw-p", "0  [heap]", [8, 0]),
            told("5c00-5d00", "r--p", "0", [0, 0]),
            told("7f00-7f10", "r-xp", "0  [vdso]", [0, 0]),
            told("7f10-7f20", "---p", "7 /usr/lib/odd.so", [0, 0]),
            "half a line\n7f20-7f30 r-xp 0000 fe:00 9 /cut/off\nAnonymous:   0 kB\n".to_owned(),
        ]
        .concat();
        assert_eq!(as_in_their_files(&maps), [(0x5500, 0x100), (0x5600, 0x200)]);
    }

    #[test]
    fn the_program_goes_on_with_its_code_its_constants_and_what_it_has() {
        let own = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let code = as_in_their_files(&own);
        let here = give_back as *const () as usize;
        let is_here = |(start, length): &(usize, usize)| (*start..start + length).contains(&here);
        assert!(code.iter().any(is_here), "its own code is among it");
        static BOTH: [&str; 2] = ["a constant", "and another"];
        let kept = vec![7_u8; 100_000];
        give_back();
        assert!(kept.iter().all(|byte| *byte == 7));
        assert_eq!(std::hint::black_box(&BOTH).concat(), "a constantand another");
        assert!(std::fs::read("/proc/self/stat").is_ok());
    }
}
