//! What to read first, and what is noise: order among findings, by nothing but themselves.
//!
//! A scan of a hospital's logs has thousands of rows, and whoever reads them has ten minutes. So ten are
//! put before all others, each with why: how sure its rule is, how rare it is here, how much else the
//! machine shows. And what fires on everything is told once. Pure: rows in, places out.

use cordon_model::finding::Level;
use cordon_model::time::UtcNanos;

/// How many are put before all others.
const FIRST: usize = 10;
/// Of one machine at most so many, so that the other machines are seen.
const A_MACHINE: usize = 3;
/// With fewer machines "on most of them" says nothing.
const SEVERAL_MACHINES: usize = 8;
/// More often than so on one machine is loud.
const LOUD: u64 = 100;

/// One rule on one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The machine, by any number.
    pub machine: usize,
    /// The rule, likewise.
    pub rule: usize,
    pub level: Level,
    /// How often it matched there.
    pub count: u64,
    /// When it did first.
    pub first: Option<UtcNanos>,
    /// Tactics of ATT&CK that rules of level medium and above show on the machine.
    pub tactics: usize,
    /// Machines on which the rule matched.
    pub machines: usize,
}

/// A row that is to be read first: its place in what was given, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct First {
    pub at: usize,
    pub why: String,
}

/// The rows to read first, of a scan of `machines` machines, whether or not anything was found on them; what is
/// told as noise is none of them. None if there are no more than can be read
/// anyway.
pub(crate) fn first(rows: &[Seen], machines: usize, with_noise: bool) -> Vec<First> {
    if rows.len() <= FIRST {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|left, right| {
        let (left, right) = (&rows[*left], &rows[*right]);
        let weight = weight(right, machines).cmp(&weight(left, machines));
        // What was first may have led to the rest. Without a time nobody knows: last.
        let early = left.first.is_none().cmp(&right.first.is_none());
        weight
            .then(early)
            .then(left.first.cmp(&right.first))
            .then(left.machine.cmp(&right.machine))
            .then(left.rule.cmp(&right.rule))
    });
    let mut chosen: Vec<First> = Vec::new();
    for at in order {
        let row = &rows[at];
        let others = || chosen.iter().map(|first| &rows[first.at]);
        // Each rule once: its other machines stand below.
        let is_told = others().any(|other| other.rule == row.rule);
        let is_much = others().filter(|other| other.machine == row.machine).count() >= A_MACHINE;
        let is_left_out = !with_noise && is_noise(row, machines);
        if row.level < Level::Medium || is_told || is_much || is_left_out {
            continue;
        }
        chosen.push(First { at, why: why(row, machines) });
        if chosen.len() == FIRST {
            break;
        }
    }
    chosen
}

/// Whether a rule, with its rows, fires on so much that it tells nothing: on most of several machines, and
/// not sure enough to be acted on.
pub(crate) fn is_noise(row: &Seen, machines: usize) -> bool {
    row.level < Level::High && machines >= SEVERAL_MACHINES && row.machines * 2 > machines
}

/// How much a row is worth reading. A level more is worth three tactics; a rule that matched on one machine
/// alone is worth a tactic or two, one that matched on most is worth less than its level says.
fn weight(row: &Seen, machines: usize) -> i64 {
    let level = match row.level {
        Level::Critical => 10,
        Level::High => 7,
        Level::Medium => 4,
        Level::Low => 1,
        Level::Informational => 0,
    };
    let breadth = i64::try_from(row.tactics.clamp(1, 5)).unwrap_or(1) - 1;
    let rarity = match row.machines {
        1 if machines > 1 => 2,
        some if some * 10 <= machines => 1,
        many if machines >= SEVERAL_MACHINES && many * 2 > machines => -3,
        _ => 0,
    };
    let loudness = i64::from(row.count > LOUD) + i64::from(row.count > 10 * LOUD);
    level + breadth + rarity - loudness
}

fn why(row: &Seen, machines: usize) -> String {
    let mut why = row.level.to_string();
    if machines > 1 {
        why.push_str(&match row.machines {
            1 => format!("; on this machine alone of {machines}"),
            some => format!("; on {some} of {machines} machines"),
        });
    }
    if row.tactics > 1 {
        why.push_str(&format!("; {} tactics on it", row.tactics));
    }
    if row.count > LOUD {
        why.push_str("; often");
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(machine: usize, rule: usize, level: Level) -> Seen {
        Seen { machine, rule, level, count: 1, first: None, tactics: 1, machines: 1 }
    }

    #[test]
    fn a_few_need_no_order_of_reading() {
        let rows: Vec<Seen> = (0..10).map(|rule| row(0, rule, Level::Critical)).collect();
        assert!(first(&rows, 1, false).is_empty());
    }

    #[test]
    fn the_gravest_the_rarest_and_the_machines_with_most_to_tell_come_first() {
        let mut rows: Vec<Seen> = (0..30).map(|rule| row(rule % 9, rule, Level::Medium)).collect();
        rows[20].level = Level::Critical;
        rows[21].tactics = 5;
        rows[22].machines = 9;
        rows[23].count = 5_000;
        let order: Vec<usize> = first(&rows, 9, false).iter().map(|first| first.at).collect();
        assert_eq!(order.len(), 10);
        assert_eq!(order[..2], [20, 21]);
        assert!(!order.contains(&22) && !order.contains(&23));
        assert_eq!(
            first(&rows, 9, false)[1].why,
            "medium; on this machine alone of 9; 5 tactics on it"
        );
    }

    #[test]
    fn no_rule_and_no_machine_takes_all_the_room() {
        let mut rows: Vec<Seen> = (0..20).map(|rule| row(0, rule, Level::Critical)).collect();
        rows.extend((0..20).map(|machine| row(machine, 99, Level::High)));
        rows.push(row(7, 100, Level::Medium));
        let chosen = first(&rows, 20, false);
        let of = |is: &dyn Fn(&Seen) -> bool| chosen.iter().filter(|f| is(&rows[f.at])).count();
        assert_eq!(of(&|row| row.machine == 0), 3);
        assert_eq!(of(&|row| row.rule == 99), 1);
        assert_eq!(of(&|row| row.rule == 100), 1);
        assert_eq!(chosen.len(), 5);
    }

    #[test]
    fn what_came_first_comes_first_of_equals() {
        let mut rows: Vec<Seen> = (0..12).map(|rule| row(rule, rule, Level::High)).collect();
        for (at, row) in rows.iter_mut().enumerate() {
            row.first = (at > 0).then(|| UtcNanos::from_unix_nanos(100 - at as i64));
        }
        let order: Vec<usize> = first(&rows, 12, false).iter().map(|first| first.at).collect();
        assert_eq!(order, [11, 10, 9, 8, 7, 6, 5, 4, 3, 2]);
    }

    #[test]
    fn noise_is_what_is_on_most_machines_and_not_sure() {
        let on = |machines, level| Seen { machines, ..row(0, 0, level) };
        assert!(is_noise(&on(5, Level::Medium), 9));
        assert!(!is_noise(&on(4, Level::Medium), 9));
        assert!(!is_noise(&on(9, Level::High), 9), "nothing that may be acted on is folded");
        assert!(!is_noise(&on(3, Level::Low), 3), "three machines are not many");
    }
}
