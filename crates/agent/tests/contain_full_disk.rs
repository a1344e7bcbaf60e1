//! A machine whose filesystem somebody has filled, to the last byte or to the last file: it is isolated,
//! released, and opened by a code all the same, and measures begin and end on it.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod contain_world;

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use contain_world::PEER;
use contain_world::bench::{Bench, LEASE};
use contain_world::running::Running;
use cordon_agent::contain::door::{DoorAnswer, DoorAsk, ask};
use cordon_agent::contain::protocol::{Answer, Ask};
use cordon_code::{Code, MasterKey, slow_hash};
use cordon_model::action::{Action, Blocked, BlockedPeer};
use cordon_model::asset::ClinicalTier;
use cordon_model::break_glass::{Brake, BreakGlass, Hashing};
use cordon_model::ids::MeasureId;
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::order::Instruction;
use cordon_model::signed::seal;
use cordon_model::time::UtcNanos;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// A machine whose helper keeps its state on a small filesystem of its own, which this test can fill.
struct SmallDisk {
    bench: Bench,
    by: By,
}

/// What is used up.
#[derive(Clone, Copy)]
enum By {
    Bytes,
    Files,
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.bench.kill();
        let _ = umount2(&self.state(), MntFlags::MNT_DETACH);
    }
}

impl SmallDisk {
    /// The machine is enrolled, assigned, and has codes.
    fn new(by: By) -> Option<Self> {
        let limits = match by {
            By::Bytes => "size=32m,mode=700",
            By::Files => "size=64m,nr_inodes=100,mode=700",
        };
        let bench = Bench::off()?;
        // Seen by this test, and what it starts, alone.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let nothing = None::<&str>;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
        let mut disk = Self { bench, by };
        let state = disk.state();
        std::fs::create_dir(&state).unwrap();
        mount(Some("none"), &state, Some("tmpfs"), MsFlags::empty(), Some(limits)).unwrap();
        let bench = &mut disk.bench;
        bench.start();
        bench.pin();
        bench.assign(1, Some(ClinicalTier::None));
        let codes = seal(&codes(bench), &bench.key).unwrap();
        assert!(matches!(bench.ask(Ask::BreakGlass(codes)), Answer::Obeyed(_)));
        Some(disk)
    }

    fn state(&self) -> PathBuf {
        self.bench.folder.path().join("state")
    }

    /// Takes whatever is left, as any user can.
    fn fill(&self) {
        let open =
            |name: &str| OpenOptions::new().append(true).create(true).open(self.state().join(name));
        match self.by {
            By::Bytes => {
                let mut ballast = open("ballast").unwrap();
                for size in [1 << 20, 1 << 12, 1] {
                    let chunk = vec![7; size];
                    is_full(std::iter::repeat_with(|| ballast.write(&chunk)));
                }
            }
            By::Files => is_full((0..).map(|number| open(&format!("ballast.{number}")))),
        }
    }

    fn give(&mut self, instruction: Instruction) -> Answer {
        let order = self.bench.order(instruction);
        self.fill();
        let answer = self.bench.give(&order);
        assert!(matches!(answer, Answer::Obeyed(_)), "{answer:?}");
        answer
    }

    /// Begins a measure; what its receipt says of it.
    fn begin(&mut self, action: Action) -> (MeasureId, MeasureState) {
        let order = self.bench.order(Instruction::begin(action, LEASE));
        self.fill();
        let Answer::Obeyed(receipts) = self.bench.give(&order) else { panic!("it is refused") };
        let measure = order.id.into();
        let its_own = receipts.receipts.into_iter().rfind(|receipt| receipt.measure == measure);
        (measure, its_own.unwrap().state)
    }

    /// Waits until the last that is told of `measure` is `state`.
    fn until(&self, measure: MeasureId, state: &MeasureState) {
        let ends = Instant::now() + Duration::from_secs(60);
        let told = || {
            // Nothing is reported by that, and so all is told.
            let answer = self.bench.ask(Ask::Reported { before: 0 });
            let Answer::Obeyed(receipts) = answer else { panic!("{answer:?}") };
            let mut its_own = receipts.receipts.into_iter();
            its_own.rfind(|receipt| receipt.measure == measure).map(|receipt| receipt.state)
        };
        while told().as_ref() != Some(state) {
            assert!(Instant::now() < ends, "{:?}", told());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn opens_by_code(&self, number: u8) {
        self.fill();
        let typed = code(&self.bench, number).grouped();
        let door = self.bench.folder.path().join("door.sock");
        let answer = ask(&door, &DoorAsk::Code(typed.to_string())).unwrap();
        assert!(matches!(answer, DoorAnswer::Opened(_)), "{answer:?}");
    }

    /// Everything that must work, each with the disk filled again before it.
    fn goes_on_all_the_same(mut self) {
        for round in 1..=3 {
            self.give(Instruction::isolate(Isolation::Full, LEASE));
            assert!(self.bench.is_cut_off());
            self.give(Instruction::Release);
            assert!(!self.bench.is_cut_off());
            self.give(Instruction::isolate(Isolation::Segment, LEASE));
            assert!(self.bench.is_cut_off());
            self.opens_by_code(round);
            assert!(!self.bench.is_cut_off());
        }
        // What was obeyed is on the disk, full as it is.
        self.fill();
        let order = self.give(Instruction::isolate(Isolation::Full, LEASE));
        assert!(matches!(order, Answer::Obeyed(_)));
        let holds = self.bench.status();
        self.bench.kill();
        self.bench.start();
        let after = self.bench.status();
        assert_eq!(after.last_order, holds.last_order);
        assert_eq!(after.in_force.unwrap().measure, holds.in_force.unwrap().measure);
        self.give(Instruction::Release);
        assert!(!self.bench.is_cut_off());
    }
}

/// Goes on until there is no room for more.
fn is_full<T>(mut tries: impl Iterator<Item = std::io::Result<T>>) {
    let error = tries.find_map(Result::err).unwrap();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
}

fn code(bench: &Bench, number: u8) -> Code {
    MasterKey::new([4; 32]).code(&"RJ1".parse().unwrap(), bench.machine, 1, number)
}

/// As the signer makes them, with costs that a test can pay.
fn codes(bench: &Bench) -> BreakGlass {
    let now = UtcNanos::now();
    let mut document = BreakGlass {
        organisation: "RJ1".parse().unwrap(),
        machine: bench.machine,
        revision: 1,
        salt: [3; 16].into(),
        hashing: Hashing { memory_kib: 256, passes: 1, lanes: 1 },
        codes: Vec::new(),
        brake: Brake {
            tries: 3,
            window_seconds: 900,
            pause_seconds: 86_400,
            longest_pause_seconds: 86_400,
        },
        hold_off_seconds: 3_600,
        issued_at: now,
        expires_at: now.plus(Duration::from_secs(3_600)),
    };
    document.codes =
        (1..=3).map(|number| slow_hash(&document, &code(bench, number)).unwrap().into()).collect();
    document
}

#[test]
fn a_disk_without_a_byte_left_stops_neither_isolation_nor_release_nor_code() {
    let Some(disk) = SmallDisk::new(By::Bytes) else { return };
    disk.goes_on_all_the_same();
}

#[test]
fn a_disk_without_a_file_left_stops_neither_isolation_nor_release_nor_code() {
    let Some(disk) = SmallDisk::new(By::Files) else { return };
    disk.goes_on_all_the_same();
}

#[test]
fn what_is_done_to_a_peer_is_taken_back_on_a_full_disk() {
    let Some(mut disk) = SmallDisk::new(By::Files) else { return };
    let peer = BlockedPeer::Network(format!("{PEER}/32").parse().unwrap());
    let action = Action::Block(Blocked { peer, transport: None, ports: None, direction: None });
    let order = disk.bench.order(Instruction::begin(action, LEASE));
    disk.fill();
    assert!(matches!(disk.bench.give(&order), Answer::Obeyed(_)));
    let holds = disk.bench.status().holds;
    assert_eq!(holds.len(), 1, "{holds:?}");
    disk.give(Instruction::Undo { measure: order.id.into() });
    let ends = Instant::now() + Duration::from_secs(30);
    while !disk.bench.status().holds.is_empty() {
        assert!(Instant::now() < ends, "{:?}", disk.bench.status().holds);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Each writes several times what it is about to do: a journal that was never written before, and then again.
#[test]
fn a_disk_without_a_file_left_stops_neither_freezing_nor_killing() {
    let Some(mut disk) = SmallDisk::new(By::Files) else { return };
    // More than can be in force at once: what is over has given its file back.
    for _ in 0..10 {
        let mut victim = Running::start("/bin/sleep".as_ref());
        let (measure, _) = disk.begin(Action::Freeze(victim.target()));
        disk.until(measure, &MeasureState::Verified);
        disk.give(Instruction::Undo { measure });
        disk.until(measure, &MeasureState::Released);
        assert!(victim.lives());
        let (measure, _) = disk.begin(Action::Kill(victim.target()));
        disk.until(measure, &MeasureState::Done);
        assert!(!victim.lives());
    }
}

#[test]
fn what_has_no_file_left_is_not_half_done_and_has_its_turn_when_another_ends() {
    let Some(mut disk) = SmallDisk::new(By::Files) else { return };
    let victims: Vec<Running> = (0..9).map(|_| Running::start("/bin/sleep".as_ref())).collect();
    let freeze = |victim: &Running| Action::Freeze(victim.target());
    let mut begun = Vec::new();
    for victim in &victims[..8] {
        let (measure, _) = disk.begin(freeze(victim));
        disk.until(measure, &MeasureState::Verified);
        begun.push(measure);
    }
    let (last, state) = disk.begin(freeze(&victims[8]));
    let MeasureState::Unproven { why } = state else { panic!("{state:?}") };
    assert!(why.contains("journal"), "{why}");
    // What is in force outlives the helper, and is written again.
    disk.bench.kill();
    disk.bench.start();
    begun.iter().for_each(|measure| disk.until(*measure, &MeasureState::Verified));
    disk.give(Instruction::Undo { measure: begun[0] });
    disk.until(begun[0], &MeasureState::Released);
    disk.until(last, &MeasureState::Verified);
}
