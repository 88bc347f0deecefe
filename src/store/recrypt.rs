//! Making a store encrypted, exchanging its master key, and the keys that open it.
//!
//! Both ways are the same walk: `config.json` first says that everything new is sealed with the current master key, and that what is there may not be yet;
//! then every file is written anew, and the old one deleted once the new one is durable and was read back; at last `config.json` says that all is done. Whatever
//! dies in between leaves a store that opens, has everything, and says that the walk is to be gone on with ([`Store::settle`]).
//!
//! What a key opens is decided before that: a store *must not* say that it is encrypted before a key that opens it is durable.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;

use super::batch::publish;
use super::config::{Config, Unsettled};
use super::crypt::{Cipher, Place, Random};
use super::index::{Holder, read_pack};
use super::keys::{KeyLabel, KeySlot, PENDING, Secret};
use super::named::{CACHE, Folder, PINS, SNAPSHOTS, TAGS};
use super::pack::{self, Entry, PackWriter};
use super::{Store, StoreError, entries, log};
use crate::durable::{self, TemporaryFile};
use crate::id::ObjectId;
use crate::progress::{Progress, Unit};

impl Store {
    /// Tells whether the store is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.vault.is_some()
    }

    /// Returns the key that opened the store.
    pub fn opened_by(&self) -> Option<&KeySlot> {
        self.slot.as_ref()
    }

    /// Tells whether a change of its encryption was begun and is not done.
    pub fn is_unsettled(&self) -> bool {
        self.vault.as_ref().is_some_and(|vault| !vault.is_settled())
    }

    /// Begins to encrypt a plain store, and opens it anew; [`Store::settle`] does the rest. The store *must* be locked.
    ///
    /// # Errors
    /// [`StoreError::Key`] where it is encrypted already, [`StoreError::Io`].
    pub fn encrypt(self, secret: &Secret, label: KeyLabel<'_>, random: Random) -> Result<(Self, KeySlot), StoreError> {
        if self.is_encrypted() {
            return Err(StoreError::Key("the store is encrypted already".to_owned()));
        }
        // What an attempt left that died before it counted.
        for (stem, path) in Self::slot_files(&self.dir)? {
            if stem.starts_with(PENDING) {
                durable::remove(&path).map_err(|source| StoreError::io("deleting", &path, source))?;
            }
        }
        let cipher = Cipher::generate(random);
        let slot = self.write_slot(PENDING, secret, label, &[cipher.master()], random)?;
        Config::encrypted(self.id.clone(), self.codecs, &cipher, Some(Unsettled::Plain)).write(&self.dir)?;
        self.confirm_slot(&slot.id)?;
        Ok((Self::open_with(&self.dir, secret, random)?, slot))
    }

    /// Gives a key the name that it keeps.
    fn confirm_slot(&self, id: &str) -> Result<(), StoreError> {
        let keys = self.dir.join("keys");
        let (from, to) = (keys.join(format!("{PENDING}{id}.json")), keys.join(format!("{id}.json")));
        if !from.exists() {
            return Ok(());
        }
        durable::rename(&from, &to).map_err(|source| StoreError::io("renaming", &from, source))
    }

    /// Adds a key. The store *must* be locked.
    ///
    /// # Errors
    /// [`StoreError::Key`] where it is not encrypted, or not settled, [`StoreError::Io`].
    pub fn add_key(&self, secret: &Secret, label: KeyLabel<'_>, random: Random) -> Result<KeySlot, StoreError> {
        let cipher = self.settled()?;
        self.write_slot("", secret, label, &[cipher.master()], random)
    }

    /// Removes a key. The store *must* be locked.
    ///
    /// # Errors
    /// [`StoreError::Key`] where there is no such key, or no other one that can be read; [`StoreError::Io`].
    pub fn remove_key(&self, id: &str) -> Result<(), StoreError> {
        self.settled()?;
        let keys = self.keys()?;
        if !Self::slot_files(&self.dir)?.iter().any(|(stem, _)| stem == id) {
            return Err(StoreError::Key(format!("there is no key `{id}`")));
        }
        if !keys.iter().flatten().any(|slot| slot.id != id) {
            return Err(StoreError::Key(format!("`{id}` is the only key: without it nothing could be read any more")));
        }
        self.delete_slot(id)
    }

    /// Puts another secret in the place of the one that opened the store. The store *must* be locked.
    ///
    /// # Errors
    /// As [`Store::add_key`].
    pub fn change_key(&self, secret: &Secret, label: KeyLabel<'_>, random: Random) -> Result<KeySlot, StoreError> {
        let old = self.slot.as_ref().map(|slot| slot.id.clone()).unwrap_or_default();
        let new = self.add_key(secret, label, random)?;
        self.delete_slot(&old)?;
        Ok(new)
    }

    fn settled(&self) -> Result<&Cipher, StoreError> {
        let Some(vault) = &self.vault else { return Err(StoreError::Key("the store is not encrypted".to_owned())) };
        if !vault.is_settled() {
            return Err(StoreError::Key("a change of the encryption was begun and is not done".to_owned()));
        }
        Ok(&vault.current)
    }

    /// Begins to exchange the master key, and opens the store anew; [`Store::settle`] does the rest. All keys but the one that opened it end. The
    /// store *must* be locked.
    ///
    /// # Errors
    /// As [`Store::add_key`]; [`StoreError::WrongKey`] where this is not the secret that opened it.
    pub fn rotate(self, secret: &Secret, random: Random) -> Result<Self, StoreError> {
        let former = self.settled()?;
        let opened = Self::unlock(&self.dir, secret, random)?;
        let current = Cipher::generate(random);
        self.write_slot_file("", opened.slot, secret, &[current.master(), former.master()], random)?;
        Config::encrypted(self.id.clone(), self.codecs, &current, Some(Unsettled::Former)).write(&self.dir)?;
        Self::open_with(&self.dir, secret, random)
    }

    /// Goes on with a change of the encryption until it is done. The store *must* be locked, and opened with this secret; it *must* be opened anew
    /// afterwards.
    ///
    /// # Errors
    /// [`StoreError::Read`] while another process reads it; [`StoreError::Damaged`] and the like for what cannot be read, and so stays as it is; [`StoreError::Io`].
    pub fn settle(&self, secret: &Secret, random: Random, progress: &dyn Progress) -> Result<(), StoreError> {
        let (Some(vault), Some(slot)) = (&self.vault, &self.slot) else { return Ok(()) };
        self.confirm_slot(&slot.id)?;
        if vault.is_settled() {
            return Ok(());
        }
        // Who opened the store before does not know what opens the files that come.
        let Some(_alone) = self.lease.alone() else { return Err(StoreError::Read) };
        // Other keys know the former master key alone, and would open nothing any more.
        if vault.former.is_some() {
            for (stem, _) in Self::slot_files(&self.dir)? {
                if stem != slot.id {
                    self.delete_slot(&stem)?;
                }
            }
        }
        self.settle_packs(progress)?;
        for folder in [SNAPSHOTS, TAGS, PINS] {
            self.settle_folder(folder)?;
        }
        self.settle_log()?;
        self.settle_cache()?;
        Config::encrypted(self.id.clone(), self.codecs, &vault.current, None).write(&self.dir)?;
        if vault.former.is_some() {
            self.write_slot_file("", slot.clone(), secret, &[vault.current.master()], random)?;
        }
        Ok(())
    }

    fn settle_packs(&self, progress: &dyn Progress) -> Result<(), StoreError> {
        let Some(vault) = &self.vault else { return Ok(()) };
        let mut done = HashSet::new();
        let mut old = Vec::new();
        let mut bytes = 0;
        for path in self.pack_paths()? {
            let (entries, cipher) = read_pack(&path, self.vault.as_ref()).map_err(|what| StoreError::Damaged {
                path: path.clone(),
                id: ObjectId([0; 32]),
                what,
            })?;
            if cipher.as_ref().is_some_and(|cipher| cipher.id() == vault.current.id()) {
                // Of an earlier walk that died. What it wrote takes the place of nothing that it does not hold to the byte.
                if pack::is_whole(&path) {
                    done.extend(entries.into_iter().map(|entry| entry.id));
                }
            } else {
                bytes += entries.iter().map(|entry| entry.stored).sum::<u64>();
                old.push((path, entries, cipher));
            }
        }
        progress.begin("encrypting packs", Some(bytes), Unit::Bytes);
        for (path, entries, cipher) in old {
            let holder = Holder::Pack(path.clone(), cipher);
            let missing: Vec<Entry> = entries.into_iter().filter(|entry| !done.contains(&entry.id)).collect();
            self.seal_anew(&path, &missing, &holder, progress)?;
            done.extend(missing.into_iter().map(|entry| entry.id));
            durable::remove(&path).map_err(|source| StoreError::io("deleting", &path, source))?;
            // What comes later may stand on what was just moved.
            self.refresh()?;
        }
        progress.finish();
        Ok(())
    }

    /// Writes the objects of a pack into one of the current key; each is proven by its id.
    fn seal_anew(&self, path: &Path, objects: &[Entry], holder: &Holder, progress: &dyn Progress) -> Result<(), StoreError> {
        let (Some(vault), Holder::Pack(_, cipher)) = (&self.vault, holder) else { return Ok(()) };
        if objects.is_empty() {
            return Ok(());
        }
        let packs = self.dir.join("packs");
        let io = |source| StoreError::io("writing a pack in", &packs, source);
        let from = File::open(path).map_err(|source| StoreError::io("reading", path, source))?;
        let mut writer = PackWriter::new(TemporaryFile::create_in(&packs).map_err(io)?, Some(vault.current.clone())).map_err(io)?;
        for entry in objects {
            self.read(entry, holder)?;
            let damaged = |what: String| StoreError::Damaged { path: path.to_owned(), id: entry.id, what };
            let stored = pack::read_stored(&from, entry).map_err(|error| damaged(error.to_string()))?;
            let stored = pack::unseal(entry, stored, cipher.as_deref()).map_err(|error| damaged(error.to_string()))?;
            let place = Place::Object(&entry.id);
            let sealed = vault.current.seal(place, &stored);
            if vault.current.open(place, &sealed).as_ref() != Ok(&stored) {
                return Err(damaged("what was sealed does not open to the same".to_owned()));
            }
            writer.append(entry.id, entry.codec, entry.base, entry.raw, &sealed).map_err(io)?;
            progress.advance(entry.stored);
        }
        publish(writer, &packs).map(drop)
    }

    fn settle_folder(&self, folder: Folder) -> Result<(), StoreError> {
        for file in self.list_named(folder)? {
            let damaged = || StoreError::DamagedSnapshot(file.path.clone());
            let name = file.name.as_ref().ok_or_else(damaged)?;
            if self.candidates(folder, name).first() == Some(&file.path) {
                continue;
            }
            // The newer kind goes first, and is there if an earlier walk died just after it wrote it.
            let content = self.read_named(folder, name)?.ok_or_else(damaged)?;
            let bytes = content.bytes.map_err(|_| damaged())?;
            if folder == SNAPSHOTS && ObjectId::of(&bytes).to_string() != *name {
                return Err(damaged());
            }
            self.write_named(folder, name, &bytes)?;
        }
        Ok(())
    }

    fn settle_log(&self) -> Result<(), StoreError> {
        let Some(vault) = &self.vault else { return Ok(()) };
        let path = self.log_path();
        if !path.exists() {
            return Ok(());
        }
        let io = |source| StoreError::io("reading", &path, source);
        let reading = log::read(&path, self.vault.as_ref()).map_err(io)?;
        if let Some((line, what)) = reading.damage {
            return Err(StoreError::Log { path, line, what });
        }
        let bytes = fs::read(&path).map_err(io)?;
        let whole = usize::try_from(reading.whole_bytes).ok().and_then(|end| bytes.get(..end)).unwrap_or_default();
        let sealed = log::seal_anew(whole, vault).map_err(|what| StoreError::Log { path: path.clone(), line: 0, what })?;
        if log::parse(&sealed, self.vault.as_ref()).entries != reading.entries {
            return Err(StoreError::Log { path, line: 0, what: "what was sealed does not open to the same".to_owned() });
        }
        durable::write(&path, &sealed).map_err(|source| StoreError::io("writing", &path, source))
    }

    /// Deletes what the cache holds of before: it is not needed.
    fn settle_cache(&self) -> Result<(), StoreError> {
        for (_, path) in entries(&self.dir.join(CACHE.name))? {
            if path.is_file() {
                durable::remove(&path).map_err(|source| StoreError::io("deleting", &path, source))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::crypt::tests::random;
    use super::super::{BatchMode, FsckDepth};
    use super::*;
    use crate::progress::Silent;

    const LABEL: KeyLabel<'_> = KeyLabel { label: "mine", created: "2026-01-01T00:00:00.000Z" };

    fn key() -> Secret {
        Secret::new_key_file(random).0
    }

    fn again(secret: &Secret) -> Secret {
        match secret {
            Secret::KeyFile(bytes) => Secret::KeyFile(bytes.clone()),
            Secret::Passphrase(words) => Secret::Passphrase(words.clone()),
        }
    }

    /// Makes a store with two packs, a snapshot, a tag and a log.
    fn store() -> (tempfile::TempDir, Store, ObjectId) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::create(&dir.path().join(".dbelay"), [7; 16]).expect("a store");
        for object in [b"[1,2,3]".to_vec(), b"\"words\",".repeat(40)] {
            let batch = store.begin(BatchMode::Durable).expect("a batch");
            batch.put(&object, None).expect("put");
            batch.finish().expect("finished");
        }
        let id = store.put_snapshot(b"{\"format\":1}").expect("a snapshot");
        store.set_tag("release", &id).expect("a tag");
        for n in 0..2 {
            store.append_operation(serde_json::json!({ "n": n })).expect("logged");
        }
        store.write_cache("seen.json", b"{}");
        (dir, store, id)
    }

    #[track_caller]
    fn check(store: &Store, id: ObjectId) {
        assert_eq!(store.get(&ObjectId::of(b"[1,2,3]")).expect("there"), b"[1,2,3]");
        assert_eq!(store.snapshot(&id).expect("there"), b"{\"format\":1}");
        assert_eq!(store.snapshot_ids().expect("listed"), [id]);
        assert_eq!(store.tags().expect("tags").get("release"), Some(&id));
        assert_eq!(store.operations().expect("the log").len(), 2);
        let report = store.fsck(FsckDepth::ReadData, &Silent).expect("checked");
        assert_eq!((report.damage, report.snapshots), (vec![], 1));
    }

    fn every_byte(dir: &Path) -> Vec<(String, Vec<u8>)> {
        let files = walkdir::WalkDir::new(dir).into_iter().filter_map(Result::ok).filter(|entry| entry.file_type().is_file());
        files.map(|file| (file.path().display().to_string(), fs::read(file.path()).expect("readable"))).collect()
    }

    #[test]
    fn an_encrypted_store_has_everything_and_tells_nothing() {
        let (_dir, store, id) = store();
        let (dir, secret) = (store.dir().to_owned(), key());
        let (store, slot) = store.encrypt(&secret, LABEL, random).expect("begun");
        check(&store, id);
        assert!(store.is_unsettled());
        store.settle(&secret, random, &Silent).expect("done");
        assert!(matches!(Store::open(&dir), Err(StoreError::KeyNeeded(_))));
        assert!(matches!(Store::open_with(&dir, &key(), random), Err(StoreError::WrongKey { keys: 1, .. })));
        let store = Store::open_with(&dir, &secret, random).expect("opens");
        check(&store, id);
        assert!(!store.is_unsettled());
        assert_eq!(store.opened_by(), Some(&slot));
        store.append_operation(serde_json::json!({ "n": 3 })).expect("logged");
        store.write_cache("seen.json", b"{}");
        assert_eq!(store.read_cache("seen.json").as_deref(), Some(b"{}".as_slice()));
        for (path, bytes) in every_byte(&dir) {
            for secret in ["release", "format\":1}", "words", "seen", &id.to_string(), "\"n\":"] {
                assert!(!path.contains(secret), "{path}");
                assert_eq!(memchr::memmem::find(&bytes, secret.as_bytes()), None, "{secret} in {path}");
            }
        }
    }

    #[test]
    fn another_master_key_ends_all_other_keys_and_opens_everything() {
        let (_dir, store, id) = store();
        let (dir, mine, theirs) = (store.dir().to_owned(), key(), key());
        let (store, _) = store.encrypt(&mine, LABEL, random).expect("begun");
        store.settle(&mine, random, &Silent).expect("done");
        drop(store);
        let store = Store::open_with(&dir, &mine, random).expect("opens");
        store.add_key(&theirs, LABEL, random).expect("added");
        check(&Store::open_with(&dir, &theirs, random).expect("opens"), id);
        let before = every_byte(&dir);
        let store = store.rotate(&mine, random).expect("begun");
        check(&store, id);
        store.settle(&mine, random, &Silent).expect("done");
        check(&Store::open_with(&dir, &mine, random).expect("opens"), id);
        assert!(Store::open_with(&dir, &theirs, random).is_err());
        assert_eq!(store.keys().expect("listed").len(), 1);
        let untouched = before.iter().filter(|(path, bytes)| !bytes.is_empty() && fs::read(path).is_ok_and(|now| now == *bytes));
        // Everything else was sealed anew.
        assert_eq!(untouched.map(|(path, _)| path.rsplit('/').next().unwrap_or_default()).collect::<Vec<_>>(), [".gitignore"]);
    }

    #[test]
    fn deltas_on_what_another_pack_had_are_sealed_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::create(&dir.path().join(".dbelay"), [7; 16]).expect("a store");
        let object = |n: usize| {
            let cells: Vec<String> = (0..500).map(|i| (i * i * 7919 + usize::from(i == 250) * n).to_string()).collect();
            format!("[{}]", cells.join(",")).into_bytes()
        };
        // A base, and so many deltas in packs of their own that some stand behind it in the order of packs.
        for n in 0..12 {
            let batch = store.begin(BatchMode::Durable).expect("a batch");
            batch.put(&object(n), Some(&ObjectId::of(&object(0)))).expect("put");
            batch.finish().expect("finished");
        }
        let (dir, secret) = (store.dir().to_owned(), key());
        let (store, _) = store.encrypt(&secret, LABEL, random).expect("begun");
        store.settle(&secret, random, &Silent).expect("done");
        drop(store);
        let store = Store::open_with(&dir, &secret, random).expect("opens");
        for n in 0..12 {
            assert_eq!(store.get(&ObjectId::of(&object(n))).expect("there"), object(n));
        }
    }

    #[test]
    fn a_reader_that_knows_no_key_is_waited_for() {
        let (_dir, store, id) = store();
        let (reader, secret) = (Store::open(store.dir()).expect("opens"), key());
        let (store, _) = store.encrypt(&secret, LABEL, random).expect("begun");
        assert!(matches!(store.settle(&secret, random, &Silent), Err(StoreError::Read)));
        assert_eq!(reader.get(&ObjectId::of(b"[1,2,3]")).expect("there"), b"[1,2,3]");
        drop(reader);
        store.settle(&secret, random, &Silent).expect("done");
        drop(store);
        check(&Store::open_with(&_dir.path().join(".dbelay"), &secret, random).expect("opens"), id);
    }

    #[test]
    fn the_last_key_stays_and_a_changed_one_opens() {
        let (_dir, store, id) = store();
        let (dir, old, new) = (store.dir().to_owned(), key(), key());
        let (store, slot) = store.encrypt(&old, LABEL, random).expect("begun");
        assert!(matches!(store.add_key(&new, LABEL, random), Err(StoreError::Key(_))), "not before it is settled");
        store.settle(&old, random, &Silent).expect("done");
        let store = Store::open_with(&dir, &old, random).expect("opens");
        assert!(matches!(store.remove_key(&slot.id), Err(StoreError::Key(_))));
        assert!(matches!(store.remove_key("0123456789abcdef"), Err(StoreError::Key(_))));
        store.change_key(&new, LABEL, random).expect("changed");
        assert!(matches!(Store::open_with(&dir, &old, random), Err(StoreError::WrongKey { .. })));
        check(&Store::open_with(&dir, &again(&new), random).expect("opens"), id);
    }

    #[test]
    fn whoever_has_no_key_cannot_make_it_plain_or_mixed_again() {
        let (_dir, store, _) = store();
        let (dir, secret) = (store.dir().to_owned(), key());
        let plain = fs::read(dir.join("config.json")).expect("a config");
        let (store, _) = store.encrypt(&secret, LABEL, random).expect("begun");
        let mixed = fs::read(dir.join("config.json")).expect("a config");
        store.settle(&secret, random, &Silent).expect("done");
        fs::write(dir.join("config.json"), &plain).expect("written");
        assert!(matches!(Store::open(&dir), Err(StoreError::Config { .. })));
        let forged = String::from_utf8(mixed).expect("text").replace("\"unsettled\":\"plain\"", "\"unsettled\":\"former\"");
        let end = forged.find(",\"check\"").expect("a check");
        let forged = format!("{},\"check\":\"{}\"}}\n", &forged[..end], ObjectId::of(format!("{}}}", &forged[..end]).as_bytes()));
        fs::write(dir.join("config.json"), forged).expect("written");
        assert!(matches!(Store::open_with(&dir, &secret, random), Err(StoreError::Config { .. })));
    }

    #[test]
    fn a_log_that_is_sealed_notices_every_flipped_byte_and_missing_line() {
        let (_dir, store, _) = store();
        let secret = key();
        let (store, _) = store.encrypt(&secret, LABEL, random).expect("begun");
        store.settle(&secret, random, &Silent).expect("done");
        let store = Store::open_with(store.dir(), &secret, random).expect("opens");
        let whole = fs::read(store.log_path()).expect("a log");
        assert_eq!(log::parse(&whole, store.vault.as_ref()).entries.len(), 2);
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(log::parse(&flipped, store.vault.as_ref()).damage.is_some(), "byte {at}");
        }
        let second = whole.split_inclusive(|byte| *byte == b'\n').nth(1).expect("a line");
        assert!(log::parse(second, store.vault.as_ref()).damage.is_some());
    }
}
