//! Loading the libraries that a schema needs: functions in indexes, collations, modules of virtual tables.
//!
//! This is the one module with unsafe code: a library's code runs in this process, and nobody can prove what it does. That is why only
//! those are loaded that `dbelay.toml` names, which is the project's own file, and why no SQL can load one.

use std::path::PathBuf;

use rusqlite::Connection;

use crate::engine::EngineError;

/// Loads libraries into a connection, each under its own name for its entry point.
#[expect(unsafe_code, reason = "SQLite's interface for loading a library is unsafe whatever is done around it")]
pub(super) fn load(connection: &Connection, libraries: &[PathBuf]) -> Result<(), EngineError> {
    for path in libraries {
        let fail = |error: rusqlite::Error| EngineError::Extension { path: path.clone(), source: Box::new(error) };
        // SAFETY: no SQL runs while loading is allowed, and the user names the library as one of this project's own.
        unsafe {
            let _guard = rusqlite::LoadExtensionGuard::new(connection).map_err(fail)?;
            connection.load_extension(path, None::<&str>).map_err(fail)?;
        }
    }
    Ok(())
}
