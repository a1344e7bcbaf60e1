//! One-time codes that people read out by phone and type with gloves on.
//!
//! | you want to | use |
//! |---|---|
//! | read what a person typed | [`Code::parse`] |
//! | print it, or say it | [`Code::grouped`], [`Code::spoken`] |
//! | make the codes of a machine | [`MasterKey::code`] |
//! | compare it with a signed document | [`slow_hash`] |
//!
//! A code is 16 characters in four groups, `7KQ4-M2XF-93TV-HBWC`: 15 that carry it and a last one that
//! checks them. The alphabet has 31 characters, without `0 O 1 I L`, which people mistake. 31 is a prime,
//! so one check character finds every single wrong character and every two that changed places: a slip of
//! the tongue is told at once, costs no try, and is never taken for guessing.
//!
//! 31¹⁵ is above 2⁷⁴.

#![forbid(unsafe_code)]

mod derive;
mod hash;

pub use derive::MasterKey;
pub use hash::{HashError, slow_hash};

use zeroize::Zeroizing;

/// The characters of a code, by their values.
const ALPHABET: &[u8; 31] = b"23456789ABCDEFGHJKMNPQRSTUVWXYZ";

/// How many there are, for arithmetic.
const BASE: u32 = 31;

/// Characters that carry a code; one more checks them.
const CARRYING: usize = 15;

/// Characters of a whole code.
pub const CHARACTERS: usize = CARRYING + 1;

/// The longest text that is looked at: a code with a blank or dash after each character, twice over.
const LONGEST_TEXT: usize = 4 * CHARACTERS;

/// Why a text is no code. None of these counts as a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoCode {
    /// Too many or too few characters.
    #[error("a code has {CHARACTERS} characters in four groups; this has {0}")]
    Length(usize),
    /// A character that no code has.
    #[error(
        "{0:?} is in no code: a code has no O, I or L, no zero and no one; ask for that group again"
    )]
    Character(char),
    /// A slip.
    #[error(
        "that is not quite it: one character is wrong, or two have changed places; read it again"
    )]
    Check,
}

/// A well-formed code. Whether it opens anything is for a machine to say.
#[derive(Clone, PartialEq, Eq)]
pub struct Code {
    values: Zeroizing<[u8; CARRYING]>,
}

/// Never shows it: what is formatted ends up in logs.
impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Code(hidden)")
    }
}

impl Code {
    /// Reads what a person typed: capital or small letters, with or without blanks and dashes.
    ///
    /// # Errors
    /// See [`NoCode`].
    pub fn parse(text: &str) -> Result<Self, NoCode> {
        if text.len() > LONGEST_TEXT {
            return Err(NoCode::Length(text.len()));
        }
        let mut values = Zeroizing::new([0; CHARACTERS]);
        let mut count = 0;
        for character in text.chars().filter(|c| !c.is_whitespace() && *c != '-') {
            let upper = character.to_ascii_uppercase();
            let value = ALPHABET.iter().position(|known| char::from(*known) == upper);
            let value = value.ok_or(NoCode::Character(character))?;
            if let Some(place) = values.get_mut(count) {
                *place = u8::try_from(value).unwrap_or(0);
            }
            count += 1;
        }
        if count != CHARACTERS {
            return Err(NoCode::Length(count));
        }
        let mut carrying = Zeroizing::new([0; CARRYING]);
        carrying.copy_from_slice(&values[..CARRYING]);
        if values[CARRYING] != check_of(&carrying) {
            return Err(NoCode::Check);
        }
        Ok(Self { values: carrying })
    }

    /// The code of these values, each below 31.
    fn of(values: [u8; CARRYING]) -> Self {
        Self { values: Zeroizing::new(values) }
    }

    /// Its 16 characters.
    #[must_use]
    pub fn characters(&self) -> Zeroizing<String> {
        let all = self.values.iter().copied().chain([check_of(&self.values)]);
        Zeroizing::new(all.map(character).collect())
    }

    /// As it is printed: `7KQ4-M2XF-93TV-HBWC`.
    #[must_use]
    pub fn grouped(&self) -> Zeroizing<String> {
        let characters = self.characters();
        let mut text = Zeroizing::new(String::with_capacity(CHARACTERS + 3));
        for (index, character) in characters.chars().enumerate() {
            if index > 0 && index % 4 == 0 {
                text.push('-');
            }
            text.push(character);
        }
        text
    }

    /// As it is said: four lines, one a group, in the spelling alphabet of radio operators (ICAO Annex 10).
    #[must_use]
    pub fn spoken(&self) -> [Zeroizing<String>; 4] {
        let characters = self.characters();
        let mut groups = [(); 4].map(|()| Zeroizing::new(String::with_capacity(40)));
        for (index, character) in characters.chars().enumerate() {
            if let Some(group) = groups.get_mut(index / 4) {
                if index % 4 > 0 {
                    group.push_str(", ");
                }
                group.push_str(word_for(character));
            }
        }
        groups
    }
}

fn character(value: u8) -> char {
    ALPHABET.get(usize::from(value)).map_or('?', |byte| char::from(*byte))
}

/// Each place has a weight of its own, 1 to 15, and the check character −1. Modulo a prime no weight and no
/// difference of two weights is zero, so no single slip and no swap of two characters adds up to nothing.
fn check_of(values: &[u8; CARRYING]) -> u8 {
    let sum: u32 = (1..).zip(values).map(|(weight, value)| weight * u32::from(*value)).sum();
    u8::try_from(sum % BASE).unwrap_or(0)
}

fn word_for(character: char) -> &'static str {
    match character {
        '2' => "Two",
        '3' => "Three",
        '4' => "Four",
        '5' => "Five",
        '6' => "Six",
        '7' => "Seven",
        '8' => "Eight",
        '9' => "Nine",
        'A' => "Alfa",
        'B' => "Bravo",
        'C' => "Charlie",
        'D' => "Delta",
        'E' => "Echo",
        'F' => "Foxtrot",
        'G' => "Golf",
        'H' => "Hotel",
        'J' => "Juliett",
        'K' => "Kilo",
        'M' => "Mike",
        'N' => "November",
        'P' => "Papa",
        'Q' => "Quebec",
        'R' => "Romeo",
        'S' => "Sierra",
        'T' => "Tango",
        'U' => "Uniform",
        'V' => "Victor",
        'W' => "Whiskey",
        'X' => "X-ray",
        'Y' => "Yankee",
        _ => "Zulu",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_code() -> impl Strategy<Value = Code> {
        prop::array::uniform15(0u8..31).prop_map(Code::of)
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back_however_it_is_typed(code in any_code()) {
            let printed = code.grouped();
            prop_assert_eq!(printed.len(), 19);
            prop_assert_eq!(Code::parse(&printed).unwrap(), code.clone());
            let spaced = printed.to_lowercase().replace('-', " ");
            prop_assert_eq!(Code::parse(&format!("  {spaced}\n")).unwrap(), code.clone());
            prop_assert_eq!(Code::parse(&code.characters()).unwrap(), code);
        }

        #[test]
        fn one_wrong_character_is_found_wherever_it_is(
            code in any_code(), at in 0usize..16, by in 1u8..31,
        ) {
            let mut characters: Vec<u8> = code.characters().bytes().collect();
            let value = ALPHABET.iter().position(|known| *known == characters[at]).unwrap() as u8;
            characters[at] = ALPHABET[usize::from((value + by) % 31)];
            let typed = String::from_utf8(characters).unwrap();
            prop_assert_eq!(Code::parse(&typed).unwrap_err(), NoCode::Check);
        }

        #[test]
        fn two_characters_that_changed_places_are_found(
            code in any_code(), one in 0usize..16, other in 0usize..16,
        ) {
            let mut characters: Vec<u8> = code.characters().bytes().collect();
            prop_assume!(characters[one] != characters[other]);
            characters.swap(one, other);
            let typed = String::from_utf8(characters).unwrap();
            prop_assert_eq!(Code::parse(&typed).unwrap_err(), NoCode::Check);
        }

        #[test]
        fn any_text_is_a_code_or_a_reason(text in any::<String>()) {
            let _ = Code::parse(&text);
        }
    }

    #[test]
    fn what_people_mistake_is_in_no_code_and_is_told() {
        for mistaken in ['0', 'O', '1', 'I', 'L', 'l', 'é', '!'] {
            assert!(!ALPHABET.iter().any(|known| char::from(*known) == mistaken));
            let typed = format!("7KQ4-M2XF-93TV-HBW{mistaken}");
            assert_eq!(Code::parse(&typed), Err(NoCode::Character(mistaken)));
        }
        assert_eq!(Code::parse("7KQ4"), Err(NoCode::Length(4)));
        assert_eq!(Code::parse(&"7".repeat(1_000_000)), Err(NoCode::Length(1_000_000)));
    }

    #[test]
    fn a_code_is_said_in_words_that_begin_with_its_letters() {
        let code = Code::of([5, 17, 19, 2, 18, 0, 27, 12, 7, 1, 23, 25, 14, 8, 26]);
        let spoken = code.spoken().map(|group| group.to_string()).join(", ");
        let said: Vec<&str> = spoken.split(", ").collect();
        assert_eq!(said.len(), 16);
        for (word, character) in said.iter().zip(code.characters().chars()) {
            if character.is_ascii_alphabetic() {
                assert!(word.starts_with(character), "{word} for {character}");
            }
        }
        // Every character has a word of its own.
        let words: std::collections::BTreeSet<_> =
            ALPHABET.iter().map(|byte| word_for(char::from(*byte))).collect();
        assert_eq!(words.len(), ALPHABET.len());
    }

    #[test]
    fn a_code_that_is_formatted_is_not_shown() {
        let code = Code::of([1; CARRYING]);
        assert!(!format!("{code:?}").contains(&code.characters()[..4]));
    }

    #[test]
    fn a_code_has_at_least_sixty_bits() {
        assert!(31u128.pow(15) > 1 << 74);
    }
}
