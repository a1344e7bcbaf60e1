//! Tar headers (POSIX.1-1988 `ustar`), as few of their forms as are needed: plain files of root's.

/// A block; members are padded to it.
pub(super) const BLOCK: usize = 512;

/// The largest size that eleven octal digits say: 8 GiB less one.
pub(super) const MEMBER_BYTES: u64 = (1 << 33) - 1;

const NAME: std::ops::Range<usize> = 0..100;
const SIZE: std::ops::Range<usize> = 124..136;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const KIND: usize = 156;
const MAGIC: std::ops::Range<usize> = 257..265;

/// The header of a plain file `name` of `bytes`; nothing in it varies but these.
pub(super) fn header(name: &str, bytes: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &str| {
        block[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(NAME.start, name.get(..name.len().min(NAME.len())).unwrap_or_default());
    // Mode, owner and group: readable by root.
    put(100, "0000400");
    put(108, "0000000");
    put(116, "0000000");
    put(SIZE.start, &format!("{:011o}", bytes.min(MEMBER_BYTES)));
    put(136, "00000000000");
    put(KIND, "0");
    put(MAGIC.start, "ustar\x0000");
    let sum = checksum(&block);
    let mut put = |at: usize, text: &str| {
        block[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(CHECKSUM.start, &format!("{sum:06o}\0 "));
    block
}

/// What follows the last member.
pub(super) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// A header's name and size; or in what way it is none of ours. An all-zero block is the end: `None`.
pub(super) fn read(block: &[u8; BLOCK]) -> Result<Option<(String, u64)>, &'static str> {
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    if &block[MAGIC] != b"ustar\x0000" {
        return Err("no tar header");
    }
    if octal(&block[CHECKSUM]) != Some(u64::from(checksum(block))) {
        return Err("a tar header that does not fit its checksum");
    }
    let name = block[NAME].split(|byte| *byte == 0).next().unwrap_or_default();
    let name = std::str::from_utf8(name).map_err(|_| "a name that is none of ours")?;
    let size = octal(&block[SIZE]).ok_or("a size that is no number")?;
    // Whatever else a header could say (links, devices, other owners) is not ours.
    if *block != header(name, size) {
        return Err("a tar header that is none of ours");
    }
    Ok(Some((name.to_owned(), size)))
}

/// The sum of all bytes, with the checksum itself as blanks.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let count =
        |(at, byte): (usize, &u8)| u32::from(if CHECKSUM.contains(&at) { b' ' } else { *byte });
    block.iter().enumerate().map(count).sum()
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_end_matches(['\0', ' ']), 8).ok()
}

/// Zeros that pad a member of `bytes`.
pub(super) fn padding(bytes: u64) -> usize {
    let over = usize::try_from(bytes % BLOCK as u64).unwrap_or(0);
    (BLOCK - over) % BLOCK
}
