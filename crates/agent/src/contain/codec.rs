//! Rules and sets as the kernel writes them: each step of a rule is a name and its attributes
//! (`NFTA_EXPR_*`), each element of a set its key (`NFTA_SET_ELEM_*`).
//!
//! Both ways are here side by side, so that whatever is written is read back as the same value; what
//! this does not know is read as [`Expression::Foreign`] or [`Element::Foreign`].

use super::netlink::{attribute, attributes, find, find_number, find_text, nest, number, text};
use super::nft::{Element, Expression, Field, Header, Meta, Rule, Set, Track, Verdict};

/// `NFTA_LIST_ELEM`.
pub(super) const LIST_ELEMENT: u16 = 1;

fn meta_key(key: Meta) -> u32 {
    match key {
        Meta::InputInterface => 4,
        Meta::OutputInterface => 5,
        Meta::SocketUser => 10,
        Meta::Family => 15,
        Meta::Protocol => 16,
    }
}

/// Key and, where it matters, direction.
fn track_key(key: Track) -> (u32, Option<u8>) {
    match key {
        Track::State => (0, None),
        Track::Direction => (1, None),
        Track::Status => (2, None),
        Track::Mark => (3, None),
        Track::OriginalPort => (12, Some(0)),
    }
}

fn header_number(header: Header) -> u32 {
    match header {
        Header::Network => 1,
        Header::Transport => 2,
    }
}

const ACCEPT: u32 = 1;
const DROP: u32 = 0;
/// `NFT_JUMP` is −3.
const JUMP: u32 = (-3i32).cast_unsigned();

/// The attributes of a rule besides where it stands.
pub(super) fn write_rule(to: &mut Vec<u8>, rule: &Rule) {
    nest(to, 4, |to| rule.iter().for_each(|step| write_expression(to, step)));
    if let Some(Expression::Comment(words)) = rule.last() {
        attribute(to, 7, &comment(words));
    }
}

/// As the `nft` tool writes a comment: type 0, length, text, zero byte.
pub(super) fn comment(words: &str) -> Vec<u8> {
    let words = words.get(..words.len().min(250)).unwrap_or_default();
    let mut bytes = vec![0, u8::try_from(words.len() + 1).unwrap_or(0)];
    bytes.extend_from_slice(words.as_bytes());
    bytes.push(0);
    bytes
}

pub(super) fn read_comment(bytes: &[u8]) -> String {
    let words = bytes.get(2..).unwrap_or_default();
    String::from_utf8_lossy(words.strip_suffix(&[0]).unwrap_or(words)).into_owned()
}

fn write_expression(to: &mut Vec<u8>, expression: &Expression) {
    let mut step = |name: &str, data: &dyn Fn(&mut Vec<u8>)| {
        nest(to, LIST_ELEMENT, |to| {
            text(to, 1, name);
            nest(to, 2, |to| data(to));
        });
    };
    let value = |to: &mut Vec<u8>, kind, value: &[u8]| nest(to, kind, |to| attribute(to, 1, value));
    match expression {
        Expression::Meta { key, into } => step("meta", &|to| {
            number(to, 1, *into);
            number(to, 2, meta_key(*key));
        }),
        Expression::Payload { header, offset, bytes, into } => step("payload", &|to| {
            number(to, 1, *into);
            number(to, 2, header_number(*header));
            number(to, 3, *offset);
            number(to, 4, *bytes);
        }),
        Expression::Track { key, into } => step("ct", &|to| {
            let (key, direction) = track_key(*key);
            number(to, 1, *into);
            number(to, 2, key);
            if let Some(direction) = direction {
                attribute(to, 3, &[direction]);
            }
        }),
        Expression::SetMark { from } => step("ct", &|to| {
            number(to, 2, track_key(Track::Mark).0);
            number(to, 4, *from);
        }),
        Expression::Bits { register, mask, flip } => step("bitwise", &|to| {
            number(to, 1, *register);
            number(to, 2, *register);
            number(to, 3, u32::try_from(mask.len()).unwrap_or(0));
            value(to, 4, mask);
            value(to, 5, flip);
        }),
        Expression::Compare { register, is_equal, value: with } => step("cmp", &|to| {
            number(to, 1, *register);
            number(to, 2, u32::from(!is_equal));
            value(to, 3, with);
        }),
        Expression::Between { register, first, last } => step("range", &|to| {
            number(to, 1, *register);
            number(to, 2, 0);
            value(to, 3, first);
            value(to, 4, last);
        }),
        Expression::Lookup { set, register } => step("lookup", &|to| {
            text(to, 1, set);
            number(to, 2, *register);
        }),
        Expression::Verdict(verdict) => step("immediate", &|to| {
            number(to, 1, 0);
            nest(to, 2, |to| {
                nest(to, 2, |to| match verdict {
                    Verdict::Accept => number(to, 1, ACCEPT),
                    Verdict::Drop => number(to, 1, DROP),
                    Verdict::Jump(chain) => {
                        number(to, 1, JUMP);
                        text(to, 2, chain);
                    }
                });
            });
        }),
        Expression::Reset => step("reject", &|to| {
            number(to, 1, 1);
            attribute(to, 2, &[0]);
        }),
        // No step of the rule, but said beside it.
        Expression::Comment(_) => {}
        // Never meant; the kernel refuses a name that it does not know.
        Expression::Foreign(name) => step(name, &|_| {}),
    }
}

/// A rule from its attributes.
pub(super) fn read_rule(body: &[u8]) -> Rule {
    let steps = attributes(find(body, 4).unwrap_or_default()).map(|(_, step)| {
        let name = find_text(step, 1).unwrap_or_default();
        let data = find(step, 2).unwrap_or_default();
        read_expression(&name, data).unwrap_or(Expression::Foreign(name))
    });
    steps.chain(find(body, 7).map(|words| Expression::Comment(read_comment(words)))).collect()
}

fn read_expression(name: &str, data: &[u8]) -> Option<Expression> {
    let value = |kind| find(data, kind).and_then(|data| find(data, 1)).map(<[u8]>::to_vec);
    Some(match name {
        "meta" => {
            let number = find_number(data, 2)?;
            let key = [
                Meta::InputInterface,
                Meta::OutputInterface,
                Meta::SocketUser,
                Meta::Family,
                Meta::Protocol,
            ]
            .into_iter()
            .find(|key| meta_key(*key) == number)?;
            Expression::Meta { key, into: find_number(data, 1)? }
        }
        "payload" => {
            let number = find_number(data, 2)?;
            Expression::Payload {
                header: [Header::Network, Header::Transport]
                    .into_iter()
                    .find(|header| header_number(*header) == number)?,
                offset: find_number(data, 3)?,
                bytes: find_number(data, 4)?,
                into: find_number(data, 1)?,
            }
        }
        "ct" => {
            let number = find_number(data, 2)?;
            if let Some(from) = find_number(data, 4) {
                return (number == track_key(Track::Mark).0)
                    .then_some(Expression::SetMark { from });
            }
            let direction = find(data, 3).and_then(|way| way.first().copied());
            let key =
                [Track::State, Track::Direction, Track::Status, Track::Mark, Track::OriginalPort]
                    .into_iter()
                    .find(|key| track_key(*key) == (number, direction))?;
            Expression::Track { key, into: find_number(data, 1)? }
        }
        "bitwise" => {
            let register = find_number(data, 1)?;
            // Operation 0 is (value & mask) ^ flip; older kernels don't say it.
            let is_plain =
                find_number(data, 2)? == register && find_number(data, 6).unwrap_or(0) == 0;
            is_plain.then_some(Expression::Bits { register, mask: value(4)?, flip: value(5)? })?
        }
        "cmp" => {
            let operation = find_number(data, 2).filter(|operation| *operation < 2)?;
            Expression::Compare {
                register: find_number(data, 1)?,
                is_equal: operation == 0,
                value: value(3)?,
            }
        }
        "range" => {
            let is_plain = find_number(data, 2)? == 0;
            let register = find_number(data, 1).filter(|_| is_plain)?;
            Expression::Between { register, first: value(3)?, last: value(4)? }
        }
        "lookup" => {
            let is_plain = find_number(data, 5).unwrap_or(0) == 0 && find(data, 3).is_none();
            let register = find_number(data, 2).filter(|_| is_plain)?;
            Expression::Lookup { set: find_text(data, 1)?, register }
        }
        "immediate" => {
            let verdict = find(find(data, 2)?, 2)?;
            Expression::Verdict(match find_number(verdict, 1)? {
                ACCEPT => Verdict::Accept,
                DROP => Verdict::Drop,
                JUMP => Verdict::Jump(find_text(verdict, 2)?),
                _ => return None,
            })
        }
        "reject" => (find_number(data, 1)? == 1).then_some(Expression::Reset)?,
        _ => return None,
    })
}

/// The attributes of a set besides its table and its elements; `id` names it within its transaction.
pub(super) fn write_set(to: &mut Vec<u8>, set: &Set, id: u32) {
    text(to, 2, &set.name);
    number(to, 3, set.flags);
    number(to, 4, set.key.iter().fold(0, |key, field| key << 6 | field.tool_type()));
    number(to, 5, key_bytes(&set.key));
    // Told how many there will be, the kernel takes the set that never has to grow.
    let size = u32::try_from(set.elements.len()).unwrap_or(u32::MAX);
    nest(to, 9, |to| number(to, 1, size));
    number(to, 10, id);
}

fn key_bytes(key: &[Field]) -> u32 {
    key.iter().map(|field| field.bytes().next_multiple_of(4)).sum()
}

/// A set from its attributes, still without what is in it.
pub(super) fn read_set(body: &[u8]) -> Set {
    /// What makes more of a set than keys: data, a time-out, objects, expressions.
    const MORE: [u16; 5] = [6, 11, 15, 17, 18];
    let key = find_number(body, 4).map(read_key).unwrap_or_default();
    let is_known = find_number(body, 5) == Some(key_bytes(&key))
        && MORE.iter().all(|kind| find(body, *kind).is_none());
    Set {
        name: find_text(body, 2).unwrap_or_default(),
        // The kernel does not say that there are none.
        flags: find_number(body, 3).unwrap_or(0),
        key: if is_known { key } else { Vec::new() },
        elements: std::collections::BTreeSet::new(),
    }
}

/// As the `nft` tool tells fields, 6 bits each; nothing if one of them is unknown.
fn read_key(mut types: u32) -> Vec<Field> {
    let mut key = Vec::new();
    while types != 0 {
        let known = [Field::Ipv4, Field::Ipv6, Field::Protocol, Field::Port]
            .into_iter()
            .find(|field| field.tool_type() == types & 0x3f);
        let Some(field) = known else { return Vec::new() };
        key.push(field);
        types >>= 6;
    }
    key.reverse();
    key
}

/// Some of the elements of the set called `name`.
pub(super) fn write_elements(to: &mut Vec<u8>, name: &str, id: u32, elements: &[&Element]) {
    text(to, 2, name);
    number(to, 4, id);
    nest(to, 3, |to| {
        for element in elements {
            nest(to, LIST_ELEMENT, |to| match element {
                Element::Key(key) => nest(to, 1, |to| attribute(to, 1, key)),
                // Never meant, only read; put back by tests of what others do.
                Element::Foreign(attributes) => to.extend_from_slice(attributes),
            });
        }
    });
}

/// The elements in one message of a listing.
pub(super) fn read_elements(body: &[u8]) -> impl Iterator<Item = Element> {
    attributes(find(body, 3).unwrap_or_default()).map(|(_, element)| {
        let mut said = attributes(element);
        match (said.next(), said.next()) {
            (Some((1, key)), None) => match find(key, 1) {
                Some(key) => Element::Key(key.to_vec()),
                None => Element::Foreign(element.to_vec()),
            },
            _ => Element::Foreign(element.to_vec()),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn element(write: impl FnOnce(&mut Vec<u8>)) -> Element {
        let mut body = Vec::new();
        nest(&mut body, 3, |to| nest(to, LIST_ELEMENT, write));
        let mut read = read_elements(&body);
        let element = read.next().unwrap();
        assert!(read.next().is_none());
        element
    }

    #[test]
    fn an_element_that_is_more_or_less_than_its_key_is_none_of_ours() {
        let key = |to: &mut Vec<u8>| nest(to, 1, |to| attribute(to, 1, &[10, 0, 0, 9]));
        assert_eq!(element(key), Element::Key(vec![10, 0, 0, 9]));
        // Data, flags, time-out, expiration, user data, expression, object, key end, expressions.
        for kind in [2u16, 3, 4, 5, 6, 7, 9, 10, 11] {
            let more = element(|to| {
                key(to);
                attribute(to, kind, &[0; 4]);
            });
            assert!(matches!(more, Element::Foreign(_)), "{kind}: {more:?}");
        }
        // The element that every key matches has flags and no key.
        assert!(matches!(element(|to| number(to, 3, 2)), Element::Foreign(_)));
        assert!(matches!(element(|_| {}), Element::Foreign(_)));
    }

    fn set() -> Set {
        Set {
            name: "peers".into(),
            flags: 0,
            key: vec![Field::Ipv6, Field::Protocol, Field::Port],
            elements: BTreeSet::new(),
        }
    }

    #[test]
    fn a_set_is_read_as_it_was_written_unless_it_is_more_than_keys() {
        let written = |more: &[(u16, u32)]| {
            let mut body = Vec::new();
            more.iter().for_each(|(kind, value)| number(&mut body, *kind, *value));
            write_set(&mut body, &set(), 1);
            read_set(&body)
        };
        assert_eq!(written(&[]), set());
        // Data, time-out, objects, expressions; and flags, key types and lengths that are not ours.
        for more in [(6, 1), (11, 1), (15, 1), (17, 1), (18, 1), (3, 4), (4, 7), (5, 4)] {
            assert_ne!(written(&[more]), set(), "{more:?}");
        }
    }

    proptest! {
        #[test]
        fn bytes_that_are_no_set_are_read_without_harm(bytes: Vec<u8>) {
            let _ = read_set(&bytes);
            let _ = read_elements(&bytes).count();
            let mut body = Vec::new();
            nest(&mut body, 3, |to| to.extend_from_slice(&bytes));
            let _ = read_elements(&body).count();
        }
    }
}
