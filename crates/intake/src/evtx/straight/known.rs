//! Templates that were compiled, known again in other chunks and files.
//!
//! A definition stands in every chunk that uses it, the same but for its references to names: those are places
//! of the chunk. So one is known again when all other bytes are the same and each reference leads to the same
//! name. Nothing is trusted: not its GUID, not a hash.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::plan::{self, Plan, Role};
use super::template::{self, Definition, HEADER_BYTES, NameAt};
use crate::meaning::Names;

/// Most bytes of definitions that are kept, some 800 of Windows' own; with what was compiled of each, four
/// times that. Beyond, all are forgotten and those that are met again compiled again.
const KEPT_BYTES: usize = 2 << 20;
/// What a definition counts at least.
const LEAST_BYTES: usize = 512;
/// Most definitions of one GUID and size, which are both somebody else's to choose: each is compared with all of
/// them. Beyond, they are not read here.
const OF_ONE_NAME: usize = 8;

/// Everything that is known.
#[derive(Debug, Default)]
pub(super) struct Known {
    kept: Vec<Kept>,
    /// By a hash with a key of its own: the GUIDs are somebody else's.
    numbers: HashMap<([u8; 16], usize, Role), Vec<usize>, RandomState>,
    bytes: usize,
    /// The definitions of the chunk being read, by place: which they are, if they are read here.
    here: Vec<(u32, Role, Option<usize>)>,
}

#[derive(Debug)]
struct Kept {
    body: Box<[u8]>,
    names: Vec<NameAt>,
    /// None for a template that is not read here.
    plan: Option<Plan>,
    nodes: usize,
}

impl Known {
    /// A chunk begins.
    pub(super) fn begin_chunk(&mut self) {
        self.here.clear();
        if self.bytes > KEPT_BYTES {
            *self = Self::default();
        }
    }

    /// A plan that [`number_of`](Self::number_of) gave the number of.
    pub(super) fn plan(&self, number: usize) -> Option<&Plan> {
        self.kept.get(number)?.plan.as_ref()
    }

    /// What a record by this plan costs to render at least: elements and the like, and bytes of JSON.
    pub(super) fn cost(&self, number: usize) -> Option<(usize, usize)> {
        let kept = self.kept.get(number)?;
        Some((kept.nodes, kept.plan.as_ref()?.literals.len()))
    }

    /// The number of the plan for the definition at `offset`, if its records are read here.
    pub(super) fn number_of(
        &mut self,
        chunk: &[u8],
        offset: u32,
        role: Role,
        names: &mut Names<'_>,
    ) -> Option<usize> {
        let is_it = |(at, of, _): &&(u32, Role, Option<usize>)| (*at, *of) == (offset, role);
        if let Some((.., number)) = self.here.iter().find(is_it) {
            return *number;
        }
        let number = self.find_or_compile(chunk, offset as usize, role, names);
        self.here.push((offset, role, number));
        number
    }

    fn find_or_compile(
        &mut self,
        chunk: &[u8],
        offset: usize,
        role: Role,
        names: &mut Names<'_>,
    ) -> Option<usize> {
        let (guid, size) = template::identity(chunk, offset)?;
        let body = template::body(chunk, offset, size)?;
        let numbers = self.numbers.entry((guid, size, role)).or_default();
        let starts = offset + HEADER_BYTES;
        let is_it = |number: &&usize| {
            self.kept.get(**number).is_some_and(|kept| kept.is(chunk, starts, body))
        };
        let number = match numbers.iter().find(is_it) {
            Some(number) => *number,
            // A chunk can have definitions without end, in one another: the rest of such a one is not read here.
            None if numbers.len() >= OF_ONE_NAME || self.bytes > 2 * KEPT_BYTES => return None,
            None => {
                let definition = template::read(chunk, offset)?;
                let plan = plan::compile(&definition.root, role, names);
                let number = self.kept.len();
                numbers.push(number);
                self.bytes += body.len().max(LEAST_BYTES) + definition.name_bytes();
                let Definition { names, nodes, .. } = definition;
                self.kept.push(Kept { body: body.into(), names, plan, nodes });
                number
            }
        };
        self.kept.get(number)?.plan.is_some().then_some(number)
    }
}

impl Kept {
    /// Whether `body`, which begins at `starts` of `chunk`, is this definition.
    fn is(&self, chunk: &[u8], starts: usize, body: &[u8]) -> bool {
        let is_same = |from: usize, to: usize| body.get(from..to) == self.body.get(from..to);
        let mut at = 0;
        for NameAt { at: reference, elsewhere } in &self.names {
            let Some(offset) = body.get(*reference..).and_then(|rest| rest.first_chunk()) else {
                return false;
            };
            let offset = u32::from_le_bytes(*offset) as usize;
            let is_here = offset == starts + reference + 4;
            let is_name = match elsewhere {
                // The name itself is part of the body; before it stand where the next one is, and a hash.
                None => is_here,
                Some(name) => {
                    !is_here && chunk.get(offset + 6..).is_some_and(|rest| rest.starts_with(name))
                }
            };
            if !is_name || !is_same(at, *reference) {
                return false;
            }
            at = reference + if is_here { 4 + 6 } else { 4 };
        }
        is_same(at, body.len().max(self.body.len()))
    }
}
