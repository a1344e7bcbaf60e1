//! The Merkle tree of RFC 6962 section 2.1 (the same in RFC 9162): hashes, roots and the two proofs.
//!
//! The one idea: whatever a tree of `n` leaves needs (its root, a proof) is made of the hashes of
//! *complete* subtrees, which never change once they are complete. So a tree can be kept as an
//! append-only file of such hashes ([`stored_index`]), and growing it needs only its [`Peaks`].
//! Checking a proof needs neither.

use std::fmt;

use sha2::{Digest, Sha256};

/// A SHA-256 hash of a leaf, a subtree or a tree.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The root of a tree without leaves: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> Hash {
    Hash(Sha256::digest(b"").into())
}

/// The hash of one leaf.
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0x00]).chain_update(leaf).finalize().into())
}

/// The hash of an inner node.
#[must_use]
pub fn node_hash(left: Hash, right: Hash) -> Hash {
    Hash(
        Sha256::new()
            .chain_update([0x01])
            .chain_update(left.0)
            .chain_update(right.0)
            .finalize()
            .into(),
    )
}

/// The complete subtrees of a growing tree, largest first: one for each bit that is set in its size.
#[derive(Debug, Clone, Default)]
pub struct Peaks {
    size: u64,
    hashes: Vec<Hash>,
}

impl Peaks {
    /// The peaks of the tree of `size` leaves that `nodes` holds.
    ///
    /// # Errors
    /// Those of `nodes`.
    pub fn of<N: Nodes>(nodes: &N, size: u64) -> Result<Self, N::Error> {
        let hashes = (0..u64::BITS)
            .rev()
            .filter(|level| size >> level & 1 == 1)
            .map(|level| nodes.node(level, (size >> level) - 1))
            .collect::<Result<_, _>>()?;
        Ok(Self { size, hashes })
    }

    /// How many leaves the tree has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf, and calls `complete` with each subtree that it completes, the leaf itself first:
    /// the order of [`stored_index`].
    pub fn push(&mut self, leaf: Hash, mut complete: impl FnMut(Hash)) {
        let mut hash = leaf;
        complete(hash);
        let mut level = 0;
        while self.size >> level & 1 == 1 {
            // A set bit has a peak; an empty list would mean that `size` lies.
            let Some(left) = self.hashes.pop() else { break };
            hash = node_hash(left, hash);
            complete(hash);
            level += 1;
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    /// The tree's root.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut from_the_right = self.hashes.iter().rev().copied();
        match from_the_right.next() {
            None => empty_root(),
            Some(last) => from_the_right.fold(last, |root, peak| node_hash(peak, root)),
        }
    }
}

/// Where the complete subtrees of a tree are kept.
pub trait Nodes {
    /// What can go wrong when one is read.
    type Error;

    /// The hash of the complete subtree over leaves `index << level` up to `(index + 1) << level`.
    ///
    /// # Errors
    /// If there is no such subtree, or it can't be read.
    fn node(&self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// The position of subtree (`level`, `index`) among all subtrees in the order in which they became
/// complete. `None` beyond 2⁶⁴.
#[must_use]
pub fn stored_index(level: u32, index: u64) -> Option<u64> {
    // The last leaf under the subtree is the one that completed it; `level` subtrees of that leaf
    // were complete before it.
    let last_leaf = index.checked_add(1)?.checked_mul(1u64.checked_shl(level)?)?.checked_sub(1)?;
    stored_count(last_leaf)?.checked_add(u64::from(level))
}

/// How many complete subtrees a tree of `size` leaves has. `None` beyond 2⁶⁴.
#[must_use]
pub fn stored_count(size: u64) -> Option<u64> {
    let mut count = 0u64;
    let mut at_level = size;
    while at_level > 0 {
        count = count.checked_add(at_level)?;
        at_level >>= 1;
    }
    Some(count)
}

/// The largest power of two that is smaller than `n`; `n` must be at least 2.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// The hash over leaves `start..end`, where `start` is a multiple of the power of two that covers the
/// range (true of every range that the RFC's recursion meets).
fn range_hash<N: Nodes>(nodes: &N, start: u64, end: u64) -> Result<Hash, N::Error> {
    let width = end - start;
    if width.is_power_of_two() {
        let level = width.trailing_zeros();
        return nodes.node(level, start >> level);
    }
    let middle = start + split(width);
    Ok(node_hash(range_hash(nodes, start, middle)?, range_hash(nodes, middle, end)?))
}

/// The root of the first `size` leaves.
///
/// # Errors
/// Those of `nodes`.
pub fn root<N: Nodes>(nodes: &N, size: u64) -> Result<Hash, N::Error> {
    if size == 0 { Ok(empty_root()) } else { range_hash(nodes, 0, size) }
}

/// A path that shows that leaf `index` is in the tree of `size` leaves (RFC 6962 section 2.1.1);
/// empty unless `index < size`.
///
/// # Errors
/// Those of `nodes`.
pub fn inclusion_proof<N: Nodes>(nodes: &N, index: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    let mut path = Vec::new();
    if index >= size {
        return Ok(path);
    }
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(range_hash(nodes, middle, end)?);
            end = middle;
        } else {
            path.push(range_hash(nodes, start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// What shows that the tree of `old` leaves is the beginning of the tree of `new` leaves (RFC 6962
/// section 2.1.2); empty unless `0 < old < new`.
///
/// # Errors
/// Those of `nodes`.
pub fn consistency_proof<N: Nodes>(nodes: &N, old: u64, new: u64) -> Result<Vec<Hash>, N::Error> {
    let mut proof = Vec::new();
    if old == 0 || old >= new {
        return Ok(proof);
    }
    let (mut start, mut end) = (0, new);
    let mut is_whole_old_tree = true;
    while end != old {
        let middle = start + split(end - start);
        if old <= middle {
            proof.push(range_hash(nodes, middle, end)?);
            end = middle;
        } else {
            proof.push(range_hash(nodes, start, middle)?);
            start = middle;
            is_whole_old_tree = false;
        }
    }
    if !is_whole_old_tree {
        proof.push(range_hash(nodes, start, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Whether `proof` shows that `leaf` is leaf `index` of the tree of `size` leaves with `root` (RFC
/// 9162 section 2.1.3.2).
#[must_use]
pub fn proves_inclusion(proof: &[Hash], index: u64, leaf: Hash, size: u64, root: Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut first, mut last) = (index, size - 1);
    let mut hash = leaf;
    for step in proof {
        if last == 0 {
            return false;
        }
        if first & 1 == 1 || first == last {
            hash = node_hash(*step, hash);
            while first & 1 == 0 && first != 0 {
                first >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(hash, *step);
        }
        first >>= 1;
        last >>= 1;
    }
    last == 0 && hash == root
}

/// Whether `proof` shows that the tree of `old` leaves with `old_root` is the beginning of the tree of
/// `new` leaves with `new_root` (RFC 9162 section 2.1.4.2). Every tree begins with the empty one.
#[must_use]
pub fn proves_consistency(
    proof: &[Hash],
    (old, old_root): (u64, Hash),
    (new, new_root): (u64, Hash),
) -> bool {
    if old > new {
        return false;
    }
    if old == 0 {
        return proof.is_empty() && old_root == empty_root() && (new > 0 || new_root == old_root);
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    // An old tree that is one complete subtree is its own first step.
    let (seed, rest) = if old.is_power_of_two() {
        (old_root, proof)
    } else {
        match proof.split_first() {
            Some((first, rest)) => (*first, rest),
            None => return false,
        }
    };
    let (mut first, mut last) = (old - 1, new - 1);
    while first & 1 == 1 {
        first >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (seed, seed);
    for step in rest {
        if last == 0 {
            return false;
        }
        if first & 1 == 1 || first == last {
            old_hash = node_hash(*step, old_hash);
            new_hash = node_hash(*step, new_hash);
            while first & 1 == 0 && first != 0 {
                first >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(new_hash, *step);
        }
        first >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == old_root && new_hash == new_root
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All complete subtrees, in the order in which they became complete.
    struct Kept(Vec<Hash>);
    impl Nodes for Kept {
        type Error = ();
        fn node(&self, level: u32, index: u64) -> Result<Hash, ()> {
            self.0.get(stored_index(level, index).ok_or(())? as usize).copied().ok_or(())
        }
    }

    fn grown(leaves: &[Vec<u8>]) -> (Kept, Peaks) {
        let (mut kept, mut peaks) = (Kept(Vec::new()), Peaks::default());
        for leaf in leaves {
            peaks.push(leaf_hash(leaf), |hash| kept.0.push(hash));
        }
        (kept, peaks)
    }

    fn numbered(count: u64) -> Vec<Vec<u8>> {
        (0..count).map(|n| n.to_be_bytes().to_vec()).collect()
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
            .collect()
    }

    /// The leaves that Certificate Transparency's own tests publish
    /// (certificate-transparency, `merkle_tree_test.cc`; the same in transparency-dev/merkle).
    fn published_leaves() -> Vec<Vec<u8>> {
        [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ]
        .into_iter()
        .map(hex)
        .collect()
    }

    #[test]
    fn the_published_trees_have_their_published_roots() {
        let leaves = published_leaves();
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        for (size, expected) in roots.iter().enumerate() {
            let (kept, peaks) = grown(&leaves[..size]);
            assert_eq!(peaks.root().to_string(), *expected, "{size} leaves, from the peaks");
            assert_eq!(root(&kept, size as u64).unwrap().to_string(), *expected, "{size} leaves");
        }
    }

    /// The published proofs for the tree above (RFC 6962 test data: path of leaf 0 of 8, and
    /// consistency 6 → 8).
    #[test]
    fn the_published_proofs_are_the_ones_we_make() {
        let leaves = published_leaves();
        let (kept, _) = grown(&leaves);
        let text = |proof: Vec<Hash>| proof.iter().map(Hash::to_string).collect::<Vec<_>>();
        assert_eq!(
            text(inclusion_proof(&kept, 0, 8).unwrap()),
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ]
        );
        assert_eq!(
            text(consistency_proof(&kept, 6, 8).unwrap()),
            [
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
        );
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_provable_and_nothing_else_is() {
        let leaves = numbered(40);
        let (kept, _) = grown(&leaves);
        for size in 1..=40 {
            let root = root(&kept, size).unwrap();
            for index in 0..size {
                let leaf = leaf_hash(&leaves[index as usize]);
                let proof = inclusion_proof(&kept, index, size).unwrap();
                assert!(proves_inclusion(&proof, index, leaf, size, root));
                assert!(!proves_inclusion(&proof, index, leaf_hash(b"other"), size, root));
                assert!(
                    !proves_inclusion(&proof, (index + 1) % size, leaf, size, root) || size == 1
                );
                assert!(!proves_inclusion(&proof, index, leaf, size, empty_root()));
            }
            assert!(!proves_inclusion(&[], size, root, size, root), "an index beyond the tree");
        }
    }

    #[test]
    fn every_small_tree_is_provably_the_beginning_of_every_later_one() {
        let (kept, _) = grown(&numbered(40));
        for new in 0..=40 {
            let new_root = root(&kept, new).unwrap();
            for old in 0..=new {
                let old_root = root(&kept, old).unwrap();
                let proof = consistency_proof(&kept, old, new).unwrap();
                assert!(
                    proves_consistency(&proof, (old, old_root), (new, new_root)),
                    "{old} {new}"
                );
                if old > 0 {
                    let other = leaf_hash(b"other");
                    assert!(!proves_consistency(&proof, (old, other), (new, new_root)));
                    assert!(!proves_consistency(&proof, (old, old_root), (new, other)));
                }
            }
        }
    }

    #[test]
    fn the_peaks_of_a_kept_tree_are_those_it_was_grown_with() {
        let (kept, _) = grown(&numbered(40));
        for size in 0..=40 {
            let peaks = Peaks::of(&kept, size).unwrap();
            assert_eq!(peaks.root(), root(&kept, size).unwrap());
        }
    }

    proptest! {
        /// A history that was rewritten anywhere has no consistency proof, whatever is made up.
        #[test]
        fn a_rewritten_history_is_not_consistent(
            old in 1u64..200, more in 0u64..200, at in 0u64..200, flip in 0usize..16,
        ) {
            let at = at % old;
            let new = old + more;
            let (honest, _) = grown(&numbered(new));
            let mut leaves = numbered(new);
            leaves[at as usize] = b"rewritten".to_vec();
            let (forged, _) = grown(&leaves);
            let before = (old, root(&honest, old).unwrap());
            let after = (new, root(&forged, new).unwrap());
            let mut proof = consistency_proof(&forged, old, new).unwrap();
            prop_assert!(!proves_consistency(&proof, before, after));
            let honest_proof = consistency_proof(&honest, old, new).unwrap();
            prop_assert!(!proves_consistency(&honest_proof, before, after));
            if !proof.is_empty() {
                let index = flip % proof.len();
                proof[index].0[0] ^= 1;
                prop_assert!(!proves_consistency(&proof, before, after));
            }
        }

        /// The same proofs come from an implementation that is not ours, and ours pass its checks.
        #[test]
        fn the_proofs_agree_with_tlog_tiles(size in 1u64..300, a in 0u64..300, b in 1u64..300) {
            use tlog_tiles::tlog;
            let theirs = |hash: Hash| tlog::Hash(hash.0);
            let (kept, _) = grown(&numbered(size));
            let root_hash = root(&kept, size).unwrap();
            let index = a % size;
            let leaf = leaf_hash(&index.to_be_bytes());
            let proof: tlog::RecordProof =
                inclusion_proof(&kept, index, size).unwrap().into_iter().map(theirs).collect();
            prop_assert!(tlog::check_record(&proof, size, theirs(root_hash), index, theirs(leaf)).is_ok());
            let old = 1 + (b - 1) % size;
            let proof: tlog::TreeProof =
                consistency_proof(&kept, old, size).unwrap().into_iter().map(theirs).collect();
            let old_root = theirs(root(&kept, old).unwrap());
            prop_assert!(tlog::check_tree(&proof, size, theirs(root_hash), old, old_root).is_ok());
        }
    }
}
