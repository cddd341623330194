use sqlx::{
    PgConnection,
    migrate::{Migrate, MigrateError, Migrator},
};

use crate::error::sqlstate;

pub(crate) static CORE: Migrator = sqlx::migrate!("../../migrations/core");
pub(crate) static SHARD: Migrator = sqlx::migrate!("../../migrations/shard");

/// Why this build cannot work on that schema; `None` if it can. Migrations that the build does
/// not know are no reason: they only expand while an older build may still run.
pub(crate) async fn unfit(
    conn: &mut PgConnection,
    migrator: &Migrator,
    what: &str,
) -> Result<Option<String>, sqlx::Error> {
    let applied = match conn.list_applied_migrations(&migrator.table_name).await {
        Ok(applied) => applied,
        Err(MigrateError::Execute(error)) if sqlstate(&error).as_deref() == Some("42P01") => {
            Vec::new() // there is no table of migrations: nothing was applied
        }
        Err(MigrateError::Execute(error)) => return Err(error),
        Err(other) => return Err(sqlx::Error::Migrate(Box::new(other))),
    };
    for migration in migrator.iter() {
        match applied.iter().find(|row| row.version == migration.version) {
            None => {
                return Ok(Some(format!(
                    "{what} lacks migration {} ({}): run `hubbub admin init`",
                    migration.version, migration.description
                )));
            }
            Some(row) if row.checksum != migration.checksum => {
                return Ok(Some(format!(
                    "{what} has another migration {} ({}) than this build: use the build that \
                     made it, or an empty database and `hubbub admin init`",
                    migration.version, migration.description
                )));
            }
            Some(_) => {}
        }
    }
    Ok(None)
}
