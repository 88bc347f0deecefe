//! `config.json`: of which format a store is, which one it is, and whether it is encrypted. `src/store.rs` specifies it.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::crypt::Cipher;
use super::pack::Codecs;
use super::{FORMAT_ENCRYPTED, FORMAT_PLAIN, FORMAT_TYPED, FORMAT_VERSION, StoreError};
use crate::durable;
use crate::id::ObjectId;

/// What `config.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    format: u32,
    /// The store's id.
    pub store: String,
    /// How it is encrypted, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
}

/// How a store is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    /// The id of the master key that everything new is sealed with.
    pub master: String,
    /// Whether files that are not encrypted, or are with a former key, may still be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsettled: Option<Unsettled>,
    /// Proves the fields above.
    mac: String,
}

/// What is being exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unsettled {
    /// Plain files become encrypted ones.
    Plain,
    /// Files of a former key become those of the current one.
    Former,
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(flatten)]
    config: Config,
    check: ObjectId,
}

impl Config {
    /// Describes a new store, not encrypted.
    pub fn plain(store: String) -> Self {
        Self { format: FORMAT_TYPED, store, encryption: None }
    }

    /// Describes a store that is encrypted with a key.
    pub fn encrypted(store: String, codecs: Codecs, cipher: &Cipher, unsettled: Option<Unsettled>) -> Self {
        let format = if codecs == Codecs::First { FORMAT_ENCRYPTED } else { FORMAT_TYPED };
        let mut config = Self { format, store, encryption: None };
        config.encryption = Some(Encryption { master: cipher.id().to_owned(), unsettled, mac: config.mac(cipher, unsettled) });
        config
    }

    /// Tells which codecs the store's packs may have.
    pub fn codecs(&self) -> Codecs {
        if self.format < FORMAT_TYPED { Codecs::First } else { Codecs::All }
    }

    fn mac(&self, cipher: &Cipher, unsettled: Option<Unsettled>) -> String {
        let said = serde_json::to_vec(&(self.format, &self.store, cipher.id(), unsettled)).expect("plain data serialises");
        cipher.mac("config", &said).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Tells whether whoever wrote this had the key.
    pub fn is_proven(&self, cipher: &Cipher) -> bool {
        self.encryption.as_ref().is_some_and(|encryption| encryption.mac == self.mac(cipher, encryption.unsettled))
    }

    /// Writes it, durably, in place of what was there.
    ///
    /// # Errors
    /// [`StoreError::Io`]; what was there is there then.
    pub fn write(&self, dir: &Path) -> Result<(), StoreError> {
        let path = dir.join("config.json");
        durable::write(&path, &self.encode()).map_err(|source| StoreError::io("writing", &path, source))
    }

    /// Returns the bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_string(self).expect("a config has string keys and no failing serializer");
        let check = ObjectId::of(json.as_bytes());
        format!("{},\"check\":\"{check}\"}}\n", json.strip_suffix('}').unwrap_or(&json)).into_bytes()
    }

    /// Reads the bytes of the file; an error says what is wrong.
    ///
    /// # Errors
    /// Where they are not what was written, or of a later format.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let ConfigFile { config, check } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if ObjectId::of(&serde_json::to_vec(&config).expect("a config has string keys and no failing serializer")) != check {
            return Err("its check does not fit".to_owned());
        }
        let fits = match config.format {
            FORMAT_PLAIN => config.encryption.is_none(),
            FORMAT_ENCRYPTED => config.encryption.is_some(),
            format => format == FORMAT_TYPED,
        };
        if !fits {
            return Err(format!("its format {} and its encryption do not fit together", config.format));
        }
        Ok(config)
    }

    /// Tells of which later format the bytes of a file say that they are, if they do.
    pub fn later_format(bytes: &[u8]) -> Option<u32> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        serde_json::from_slice(bytes).ok().map(|Version { format }| format).filter(|format| *format > FORMAT_VERSION)
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`StoreError::NoStore`], [`StoreError::NewerFormat`], [`StoreError::Config`], [`StoreError::Io`].
    pub fn read(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("config.json");
        let json = match fs::read(&path) {
            Ok(json) => json,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(StoreError::NoStore(dir.to_owned()));
            }
            Err(source) => return Err(StoreError::io("reading", &path, source)),
        };
        if let Some(found) = Self::later_format(&json) {
            return Err(StoreError::NewerFormat { dir: dir.to_owned(), found });
        }
        Self::decode(&json).map_err(|what| StoreError::Config { path, what })
    }
}
