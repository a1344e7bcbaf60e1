//! Many literals, all found in one pass over a text.
//!
//! The one idea: every occurrence of a literal has each four bytes of the literal in it. So of each literal the
//! four bytes are taken that are likely the rarest, and of a text all that is asked at each place is whether
//! its next four bytes are any of these: one bit of a small table. Where they are, the few literals behind them
//! are compared. An automaton has to follow every byte through states that lie all over its memory; this reads
//! a table that stays in the first cache, and hardly grows with the number of literals.
//!
//! Somebody who knows the literals can write a text in which those four bytes are everywhere. At no place are
//! there more than [`ALIKE`] literals to compare: those that find all their four bytes taken go into an
//! automaton beside the table, which is seldom needed.
//!
//! Where the literals are few and none is very short, a first look says sixteen bytes at a time or more whether any
//! could be there at all: in most texts none is.

use std::sync::OnceLock;

use aho_corasick::packed::{Config, MatchKind as First, Searcher};
use aho_corasick::{AhoCorasick, BuildError, MatchKind};
use serde::de::Error as _;
use serde::{Deserialize, Serialize};

use crate::quick_hash::QuickMap;

/// The most literals that may be known by the same bytes.
const ALIKE: usize = 8;

/// The most literals, and the fewest bytes of each and of a text, that a first look is worth its while for.
const FEW: usize = 32;
const NOT_SHORT: usize = 3;
const LONG_TEXT: usize = 48;

/// Finds all literals of a set.
#[derive(Debug)]
pub(crate) struct Finder {
    /// All texts, one after the other, and where each begins; one more at the end.
    texts: Box<[u8]>,
    starts: Box<[u32]>,
    /// By four bytes, and by two for literals that have no more than three.
    fours: Signs<4>,
    twos: Signs<2>,
    /// Literals of one byte: by that, and the literal's number.
    ones: Box<[(u8, u32)]>,
    /// Literals that had no bytes of their own, and their numbers.
    others: Option<(AhoCorasick, Box<[u32]>)>,
    /// Says whether any literal is in a text: none where they are many or short. Made when a text first needs it.
    first_look: OnceLock<Option<Searcher>>,
}

/// The bytes that literals are known by.
#[derive(Debug, Serialize, Deserialize)]
struct Signs<const N: usize> {
    /// A bit for each hash: whether a sign has it.
    is_sign: Box<[u64]>,
    /// How many bits of a product are no part of the hash: fewer than all.
    #[serde(deserialize_with = "below_all_bits")]
    shift: u32,
    /// By hash without its lowest three bits: where the signs begin; one more at the end.
    starts: Box<[u32]>,
    signs: Box<[Sign]>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Sign {
    bytes: u32,
    literal: u32,
    /// Where in the literal the sign is.
    at: u32,
}

impl Serialize for Finder {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let others = self.others.as_ref().map(|(_, numbers)| numbers);
        (&self.texts, &self.starts, &self.fours, &self.twos, &self.ones, others)
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Finder {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        type Parts =
            (Box<[u8]>, Box<[u32]>, Signs<4>, Signs<2>, Box<[(u8, u32)]>, Option<Box<[u32]>>);
        let (texts, starts, fours, twos, ones, others) = Parts::deserialize(deserializer)?;
        let literal = |number: &u32| {
            let number = *number as usize;
            let (from, to) = (*starts.get(number)?, *starts.get(number + 1)?);
            texts.get(from as usize..to as usize)
        };
        let others = match others {
            None => None,
            Some(numbers) => {
                let literals: Option<Vec<&[u8]>> = numbers.iter().map(literal).collect();
                let literals =
                    literals.ok_or_else(|| D::Error::custom("a literal that isn't there"))?;
                Some((automaton(&literals).map_err(D::Error::custom)?, numbers))
            }
        };
        Ok(Self { texts, starts, fours, twos, ones, others, first_look: OnceLock::new() })
    }
}

fn automaton(texts: &[&[u8]]) -> Result<AhoCorasick, BuildError> {
    AhoCorasick::builder().match_kind(MatchKind::Standard).build(texts)
}

impl Finder {
    /// Finds `literals`, none of them empty and no two the same.
    ///
    /// # Errors
    /// When there are too many for an automaton.
    pub(crate) fn new(literals: &[&[u8]]) -> Result<Self, BuildError> {
        let mut texts = Vec::new();
        let mut starts = vec![0];
        for literal in literals {
            texts.extend_from_slice(literal);
            starts.push(texts.len() as u32);
        }
        let mut others = Vec::new();
        let of = |lengths: std::ops::RangeInclusive<usize>| -> Vec<(u32, &[u8])> {
            let numbered = (0..).zip(literals.iter().copied());
            let mut of: Vec<(u32, &[u8])> =
                numbered.filter(|(_, literal)| lengths.contains(&literal.len())).collect();
            // The shortest have the fewest places to choose from.
            of.sort_by_key(|(_, literal)| literal.len());
            of
        };
        let ones = of(1..=1).into_iter().filter_map(|(n, text)| Some((*text.first()?, n)));
        let ones = ones.collect();
        let twos = Signs::new(&of(2..=3), &mut others);
        let fours = Signs::new(&of(4..=usize::MAX), &mut others);
        let others = match others.is_empty() {
            true => None,
            false => {
                let texts: Vec<&[u8]> = others
                    .iter()
                    .filter_map(|number| literals.get(*number as usize).copied())
                    .collect();
                Some((automaton(&texts)?, others.into()))
            }
        };
        let (texts, starts) = (texts.into(), starts.into());
        Ok(Self { texts, starts, fours, twos, ones, others, first_look: OnceLock::new() })
    }

    fn first_look(&self) -> Option<&Searcher> {
        if self.starts.len() > FEW + 1 {
            return None;
        }
        let make = || {
            let ends = self.starts.iter().skip(1);
            let literals =
                self.starts.iter().zip(ends).map(|(from, to)| {
                    self.texts.get(*from as usize..*to as usize).unwrap_or_default()
                });
            let literals: Vec<&[u8]> = literals.collect();
            if literals.iter().any(|literal| literal.len() < NOT_SHORT) {
                return None;
            }
            Config::new().match_kind(First::LeftmostFirst).builder().extend(literals).build()
        };
        self.first_look.get_or_init(make).as_ref()
    }

    /// Tells each place of `text` where a literal is: the literal's number, where it begins and where it ends.
    pub(crate) fn find(&self, text: &[u8], each: &mut impl FnMut(u32, usize, usize)) {
        if text.len() >= LONG_TEXT
            && let Some(look) = self.first_look()
            && look.find(text).is_none()
        {
            return;
        }
        self.fours.find(text, &mut |sign, at| self.compare(text, sign, at, each));
        if !self.twos.signs.is_empty() {
            self.twos.find(text, &mut |sign, at| self.compare(text, sign, at, each));
        }
        for (byte, literal) in &self.ones {
            memchr::memchr_iter(*byte, text).for_each(|at| each(*literal, at, at + 1));
        }
        if let Some((automaton, numbers)) = &self.others {
            for found in automaton.find_overlapping_iter(text) {
                if let Some(literal) = numbers.get(found.pattern().as_usize()) {
                    each(*literal, found.start(), found.end());
                }
            }
        }
    }

    /// Whether the literal of a sign that is at `at` is there.
    fn compare(
        &self,
        text: &[u8],
        sign: Sign,
        at: usize,
        each: &mut impl FnMut(u32, usize, usize),
    ) {
        let number = sign.literal as usize;
        let (Some(&[from, to]), Some(begin)) =
            (self.starts.get(number..number + 2), at.checked_sub(sign.at as usize))
        else {
            return;
        };
        let Some(literal) = self.texts.get(from as usize..to as usize) else { return };
        let end = begin + literal.len();
        if text.get(begin..end) == Some(literal) {
            each(sign.literal, begin, end);
        }
    }
}

impl<const N: usize> Signs<N> {
    /// Signs for literals of at least `N` bytes. Those that find none are added to `others`.
    fn new(literals: &[(u32, &[u8])], others: &mut Vec<u32>) -> Self {
        // What many literals have in them is in many texts too.
        let mut counts: QuickMap<u32, u32> = QuickMap::default();
        let signs_in = |literal: &[u8]| literal.windows(N).map(sign_of).collect::<Vec<u32>>();
        for &(_, literal) in literals {
            for sign in signs_in(literal) {
                *counts.entry(sign).or_default() += 1;
            }
        }
        let mut taken: QuickMap<u32, usize> = QuickMap::default();
        let mut signs = Vec::with_capacity(literals.len());
        for &(number, literal) in literals {
            let best = (0..)
                .zip(signs_in(literal))
                .filter(|(_, sign)| taken.get(sign).copied().unwrap_or(0) < ALIKE)
                .min_by_key(|(_, sign)| {
                    let alike = taken.get(sign).copied().unwrap_or(0);
                    (frequency(*sign, N) * u64::from(counts.get(sign).copied().unwrap_or(0)), alike)
                });
            match best {
                Some((at, bytes)) => {
                    *taken.entry(bytes).or_default() += 1;
                    signs.push(Sign { bytes, literal: number, at });
                }
                None => others.push(number),
            }
        }
        // Between 8 and 16 bits a sign: one place of ten at the most is looked at in vain.
        let bits = (taken.len() * 8).next_power_of_two().max(64);
        let shift = u32::BITS - bits.trailing_zeros();
        let mut is_sign = vec![0u64; bits / 64];
        signs.sort_unstable_by_key(|sign| hash(sign.bytes, shift));
        let mut starts = vec![0u32; bits / 8 + 1];
        for sign in &signs {
            let hash = hash(sign.bytes, shift);
            if let Some(word) = is_sign.get_mut(hash / 64) {
                *word |= 1 << (hash % 64);
            }
            if let Some(end) = starts.get_mut(hash / 8 + 1) {
                *end += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let (is_sign, starts) = (is_sign.into(), starts.into());
        Self { is_sign, shift, starts, signs: signs.into() }
    }

    fn find(&self, text: &[u8], each: &mut impl FnMut(Sign, usize)) {
        if self.signs.is_empty() {
            return;
        }
        for (at, window) in text.windows(N).enumerate() {
            let bytes = sign_of(window);
            let hash = hash(bytes, self.shift);
            let word = self.is_sign.get(hash / 64).copied().unwrap_or(0);
            if word >> (hash % 64) & 1 != 0 {
                self.at_hash(hash, bytes, at, each);
            }
        }
    }

    #[inline(never)]
    fn at_hash(&self, hash: usize, bytes: u32, at: usize, each: &mut impl FnMut(Sign, usize)) {
        let Some(&[from, to]) = self.starts.get(hash / 8..hash / 8 + 2) else { return };
        let signs = self.signs.get(from as usize..to as usize).unwrap_or_default();
        for sign in signs.iter().filter(|sign| sign.bytes == bytes) {
            each(*sign, at);
        }
    }
}

/// A shift that is stored, and no other number.
fn below_all_bits<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let shift = u32::deserialize(from)?;
    if shift < u32::BITS {
        Ok(shift)
    } else {
        Err(serde::de::Error::custom("more bits than there are"))
    }
}

/// Up to four bytes as a number.
#[inline(always)]
fn sign_of(bytes: &[u8]) -> u32 {
    match bytes {
        [a, b, c, d] => u32::from_le_bytes([*a, *b, *c, *d]),
        [a, b] => u32::from(u16::from_le_bytes([*a, *b])),
        _ => 0,
    }
}

/// A number below 2^(32 − `shift`).
#[inline(always)]
fn hash(bytes: u32, shift: u32) -> usize {
    // 2^32 divided by the golden ratio, odd: neighbouring numbers are spread out.
    (bytes.wrapping_mul(0x9e37_79b1) >> shift) as usize
}

/// How often bytes come in folded command lines and paths, to compare with others: letters by how common they
/// are in English, and what stands between words.
fn frequency(bytes: u32, count: usize) -> u64 {
    let of_byte = |byte: &u8| match byte {
        b'\\' | b'.' | b' ' | b'e' | b's' | b't' => 12,
        b'a' | b'i' | b'n' | b'o' | b'r' | b'c' | b'd' | b'm' | b'p' | b'l' | b'x' | b'w' => 8,
        b'a'..=b'z' | b'-' | b'"' | b':' | b'/' | b'0'..=b'3' => 4,
        b'4'..=b'9' | b'_' | b'=' | b'(' | b')' => 3,
        _ => 1,
    };
    bytes.to_le_bytes().iter().take(count).map(of_byte).product()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every place of every literal.
    fn slow(literals: &[&[u8]], text: &[u8]) -> Vec<(u32, usize, usize)> {
        let mut found = Vec::new();
        for (number, literal) in (0..).zip(literals) {
            for (at, window) in text.windows(literal.len()).enumerate() {
                if window == *literal {
                    found.push((number, at, at + literal.len()));
                }
            }
        }
        found
    }

    fn found(literals: &[&[u8]], text: &[u8]) -> Vec<(u32, usize, usize)> {
        let mut found = Vec::new();
        let finder = Finder::new(literals).unwrap();
        finder.find(text, &mut |number, begin, end| found.push((number, begin, end)));
        found.sort_unstable();
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn every_place_of_every_literal_is_found_once(
            literals in prop::collection::btree_set("[abé]{1,7}", 0..40),
            text in "[abé]{0,40}",
        ) {
            let literals: Vec<&[u8]> = literals.iter().map(|text| text.as_bytes()).collect();
            prop_assert_eq!(found(&literals, text.as_bytes()), slow(&literals, text.as_bytes()));
        }

        #[test]
        fn a_first_look_passes_over_no_text_with_a_literal_in_it(
            literals in prop::collection::btree_set("[abé]{3,9}", 1..FEW),
            text in "[abéc]{40,120}",
            at in 0..80_usize,
        ) {
            let literals: Vec<&[u8]> = literals.iter().map(|text| text.as_bytes()).collect();
            // As they come, and one put into a text without any, at any place, its end too.
            let mut bare = vec![b'c'; 80];
            prop_assert_eq!(found(&literals, &bare), []);
            bare.splice(at..at, literals[0].iter().copied());
            for text in [text.as_bytes(), &bare[..], &bare[..at.max(LONG_TEXT)]] {
                prop_assert_eq!(found(&literals, text), slow(&literals, text));
            }
        }
    }

    #[test]
    fn a_first_look_is_for_few_literals_none_of_them_short() {
        let has_it = |literals: &[&[u8]]| Finder::new(literals).unwrap().first_look().is_some();
        assert!(has_it(&[b"mimikatz", b"lsadump"]));
        assert!(!has_it(&[b"mimikatz", b"lsadump", b"::"]));
        let many: Vec<String> = (100..100 + FEW).map(|number| number.to_string()).collect();
        let many: Vec<&[u8]> =
            many.iter().map(|text| text.as_bytes()).chain([&b"abc"[..]]).collect();
        assert!(!has_it(&many));
    }

    #[test]
    fn literals_that_are_all_alike_are_found_too() {
        let texts: Vec<String> = (1..60).map(|length| "a".repeat(length)).collect();
        let literals: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        assert!(Finder::new(&literals).unwrap().others.is_some());
        let text = "a".repeat(70);
        assert_eq!(found(&literals, text.as_bytes()), slow(&literals, text.as_bytes()));
    }
}
