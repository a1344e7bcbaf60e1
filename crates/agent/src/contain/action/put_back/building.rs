//! What is to come is built beside its place, whole and with all that it was, before it comes.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use rustix::fs::{AtFlags, Gid, Timespec, Timestamps, Uid};

use super::super::place::Place;
use super::super::spared::FileId;
use super::super::{ActError, failed};
use super::looks::changed;
use super::swap::Swap;
use super::{PutBack, PutBackMeasure, Step};
use crate::contain::lookout::standing::{FileStanding, LinkStanding, Standing};
use crate::contain::lookout::store::Store;

impl PutBack {
    /// Builds what is to come, and has it change places with what is to go.
    pub(super) fn build_and_change(
        &self,
        put_back: &mut PutBackMeasure,
        place: &Place,
        swap: &Swap,
        step: Step,
    ) -> Result<(), ActError> {
        let shown = put_back.target.path.clone();
        let building = || failed(format!("building what stood at {shown}"));
        // Half of it may be there from before.
        swap.clear_half_built(place, put_back.built).map_err(building())?;
        let (built, differs) = self.build(put_back, place, swap)?;
        put_back.built = built;
        put_back.differs = differs;
        put_back.step = step;
        self.write(put_back)?;
        swap.change(place, built).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound => changed(&shown),
            _ => failed(format!("changing {shown}"))(error),
        })
    }

    /// Under the name beside, but for what is built without one; its inode.
    fn build(
        &self,
        put_back: &PutBackMeasure,
        place: &Place,
        swap: &Swap,
    ) -> Result<(Option<FileId>, Vec<String>), ActError> {
        let building = || failed(format!("building what stood at {}", put_back.target.path));
        match swap.comes() {
            Standing::Nothing | Standing::Other(_) => Ok((None, Vec::new())),
            Standing::Link(link) => {
                Ok((Some(make_link(place, swap, link).map_err(building())?), Vec::new()))
            }
            Standing::File(file) => {
                let new = place.make(swap.aside()).map_err(|error| building()(error.into()))?;
                let filled = self.fill(put_back, file, &new);
                // Half of it is of no use to anybody, and nobody knows of it but we.
                if filled.is_err() && is_at(place, swap, &new) {
                    let _ = place.unlink(swap.aside());
                }
                filled
            }
        }
    }

    /// Has a new file be all that stood there.
    fn fill(
        &self,
        put_back: &PutBackMeasure,
        file: &FileStanding,
        new: &File,
    ) -> Result<(Option<FileId>, Vec<String>), ActError> {
        let shown = &put_back.target.path;
        let building = || failed(format!("building what stood at {shown}"));
        if put_back.step == Step::Done || put_back.step == Step::GoingBack {
            let put = |offset: u64, bytes: &[u8]| new.write_all_at(bytes, offset);
            let (_, ending) = self.vault.restore(put_back.measure, put)?;
            new.set_len(ending.size).map_err(building())?;
        } else {
            let store = Store::open(&self.lookout).map_err(failed("opening what was seen"))?;
            let content = store
                .content(file.sha256)
                .map_err(failed(format!("reading what stood at {shown}")))?;
            new.write_all_at(&content, 0).map_err(building())?;
        }
        let differs = file.metadata.put_on(new).map_err(building())?;
        new.sync_all().map_err(building())?;
        let id = FileId::of(&new.metadata().map_err(building())?);
        Ok((Some(id), differs))
    }
}

fn make_link(place: &Place, swap: &Swap, link: &LinkStanding) -> io::Result<FileId> {
    let folder = place.folder();
    rustix::fs::symlinkat(link.target.as_slice(), folder, swap.aside())?;
    dressed(place, swap, link)
}

/// Gives the link that was made its owner and times: by its own handle, when it is seen to be that. Whoever owns the folder
/// can have another file under its name by now, and is not to be given that.
fn dressed(place: &Place, swap: &Swap, link: &LinkStanding) -> io::Result<FileId> {
    let another =
        || io::Error::other("somebody put another thing under the name that it is built by");
    let found = place.found_as(swap.aside()).map_err(io::Error::other)?.ok_or_else(another)?;
    let is_made = found.metadata.is_symlink()
        && found.metadata.uid() == rustix::process::geteuid().as_raw()
        && rustix::fs::readlinkat(&found, "", Vec::new())?.as_bytes() == link.target;
    if !is_made {
        return Err(another());
    }
    let owner = (Some(Uid::from_raw(link.user)), Some(Gid::from_raw(link.group)));
    let time = Timespec { tv_sec: link.modified.0.0, tv_nsec: link.modified.0.1.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    let itself = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(&found, "", owner.0, owner.1, itself)
        .and_then(|()| rustix::fs::utimensat(&found, "", &times, itself))
        .inspect_err(|_| {
            let _ = place.unlink(swap.aside());
        })?;
    Ok(found.id())
}

/// Whether what has the name beside is this very file.
fn is_at(place: &Place, swap: &Swap, file: &File) -> bool {
    let its = file.metadata().map(|metadata| FileId::of(&metadata));
    let found = place.found_as(swap.aside()).ok().flatten();
    found.is_some_and(|found| its.is_ok_and(|its| its == found.id()))
}

/// The flags come last: an immutable file takes nothing more. Only of the very file that was built: whatever has its name by
/// now is somebody's.
pub(super) fn put_flags(
    place: &Place,
    standing: &Standing,
    built: Option<FileId>,
    differs: &mut Vec<String>,
) -> Result<(), ActError> {
    if let Standing::File(file) = standing
        && let Some(found) = place.found()?
        && found.metadata.is_file()
        && Some(found.id()) == built
    {
        let opened = found.open().map_err(failed("opening what was put back"))?;
        differs.extend(file.metadata.put_flags(&opened));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contain::action::quarantine::metadata::FileTime;

    #[test]
    fn what_was_put_under_the_name_of_a_link_that_is_built_is_given_to_nobody() {
        if cordon_tests::lacks_root("giving files away") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let place = Place::find(&path.join("link")).unwrap();
        let link = LinkStanding {
            file: FileId { device: 0, inode: 0 },
            target: b"target".to_vec(),
            user: 1_000,
            group: 1_000,
            modified: FileTime((5, 7)),
        };
        let swap = Swap::between(&Standing::Nothing, &Standing::Link(link.clone()), "aside".into());
        // As the owner of the folder does between the making and the giving.
        std::fs::write(path.join("aside"), "root's").unwrap();
        assert!(dressed(&place, &swap, &link).is_err());
        assert_eq!(std::fs::metadata(path.join("aside")).unwrap().uid(), 0);
        std::fs::remove_file(path.join("aside")).unwrap();
        let id = make_link(&place, &swap, &link).unwrap();
        let made = std::fs::symlink_metadata(path.join("aside")).unwrap();
        assert_eq!(FileId::of(&made), id);
        assert_eq!((made.uid(), made.mtime(), made.mtime_nsec()), (1_000, 5, 7));
    }
}
