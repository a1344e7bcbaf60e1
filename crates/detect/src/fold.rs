//! Case folding: the one definition of "the same but for case" that rules and events share.
//!
//! The one idea: each character is folded by itself, to exactly one character. So folding a
//! concatenation is concatenating the folds, and a literal found in folded text stands for a place in
//! the text as written: automata, hash sets and the required literals of regular expressions may all
//! be asked about the folded text.

/// The fold of one character: its lower case where that is a single character, else itself.
#[must_use]
pub fn fold_char(character: char) -> char {
    if character.is_ascii() {
        return character.to_ascii_lowercase();
    }
    let mut lower = character.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(only), None) => only,
        _ => character,
    }
}

/// Appends the fold of `text` to `folded`.
pub fn fold_into(text: &str, folded: &mut String) {
    if text.is_ascii() {
        let start = folded.len();
        folded.push_str(text);
        if let Some(tail) = folded.get_mut(start..) {
            tail.make_ascii_lowercase();
        }
    } else {
        folded.extend(text.chars().map(fold_char));
    }
}

/// The fold of `text`.
#[must_use]
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    fold_into(text, &mut folded);
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn letters_of_any_script_fold_to_lower_case() {
        assert_eq!(fold("PowerShell ÄÖ ΣΊΣΥΦΟΣ"), "powershell äö σίσυφοσ");
    }

    #[test]
    fn a_letter_whose_lower_case_is_longer_stays_one_character() {
        assert_eq!(fold("İ"), "İ");
    }

    proptest! {
        #[test]
        fn folding_twice_changes_nothing(text in ".{0,40}") {
            prop_assert_eq!(fold(&fold(&text)), fold(&text));
        }

        #[test]
        fn folding_goes_through_concatenation(left in ".{0,20}", right in ".{0,20}") {
            prop_assert_eq!(fold(&format!("{left}{right}")), fold(&left) + &fold(&right));
        }
    }
}
