//! `.sqlx` against the migrations: an edit of one without the other would compile, and fail at
//! run time. `crates/store/prepare --check` compares more (nullability) and takes a build.

use std::{fs, path::Path};

use anyhow::Context;
use hubbub_stack::TestEnv;
use serde_json::Value;
use sqlx::{
    AssertSqlSafe, Column, Connection, Executor, PgConnection, SqlSafeStr, Statement, TypeInfo,
};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn data() -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root().join(".sqlx")).context("list .sqlx")? {
        all.push(serde_json::from_slice(&fs::read(entry?.path())?)?);
    }
    Ok(all)
}

/// The text of the one query that has `part` in it.
pub(crate) fn query(part: &str) -> anyhow::Result<String> {
    let data = data()?;
    let mut found = data
        .iter()
        .filter_map(|query| query["query"].as_str())
        .filter(|text| text.contains(part));
    let text = found.next().context("no such query")?;
    anyhow::ensure!(found.next().is_none(), "several queries have {part}");
    Ok(text.to_owned())
}

#[tokio::test]
async fn every_query_fits_the_migrations() -> anyhow::Result<()> {
    let env = TestEnv::new("offline_data").await?;
    let mut conn = PgConnection::connect(&env.core_url).await?;
    for directory in ["core", "shard"] {
        let mut files: Vec<_> = fs::read_dir(root().join("migrations").join(directory))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        files.sort();
        for file in files {
            let sql = fs::read_to_string(&file)?;
            let result = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await;
            result.with_context(|| file.display().to_string())?;
        }
    }
    let data = data()?;
    assert!(!data.is_empty());
    for query in data {
        let text = query["query"].as_str().context("a query has a text")?;
        let statement = (&mut conn)
            .prepare(AssertSqlSafe(text.to_owned()).into_sql_str())
            .await
            .with_context(|| format!("run crates/store/prepare: {text}"))?;
        let columns: Vec<(String, String)> = statement
            .columns()
            .iter()
            .map(|column| {
                (
                    column.name().to_owned(),
                    column.type_info().name().to_owned(),
                )
            })
            .collect();
        let recorded: Vec<(String, String)> = query["describe"]["columns"]
            .as_array()
            .context("a query has columns")?
            .iter()
            .map(|column| {
                let text = |field| column[field].as_str().unwrap_or_default().to_owned();
                (text("name"), text("type_info").to_uppercase())
            })
            .collect();
        assert_eq!(columns, recorded, "run crates/store/prepare: {text}");
    }
    Ok(())
}

#[test]
fn every_file_of_offline_data_is_of_a_query() -> anyhow::Result<()> {
    let mut source = String::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))? {
        // Modules in directories of their own have no queries.
        let path = entry?.path();
        if path.is_file() {
            source.push_str(&fs::read_to_string(path)?);
        }
    }
    for query in data()? {
        let text = query["query"].as_str().context("a query has a text")?;
        assert!(source.contains(text), "run crates/store/prepare: {text}");
    }
    Ok(())
}
