//! The tree on redb, a copy-on-write B-tree: a second engine that shares nothing with the first, as its judge in tests.

use super::{APPLIED_KEY, Batch, Pin, Rows, Tree, TreeError, check_sorted, decode_applied};
use crate::sync::lock;
use bytes::Bytes;
use hotwarm_types::Lsn;
use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction,
};
use std::ops::Bound;
use std::path::Path;
use std::sync::Mutex;

type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

const TABLE: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("rows");

pub(crate) struct RedbTree {
    database: Database,
    /// Applied and durable.
    positions: Mutex<(Lsn, Lsn)>,
}

fn engine_error(error: impl std::fmt::Display) -> TreeError {
    TreeError::Engine { during: "use redb", error: error.to_string() }
}

impl RedbTree {
    pub(crate) fn open(file: &Path) -> Result<Self, TreeError> {
        let database = Database::create(file).map_err(engine_error)?;
        let tree = Self { database, positions: Mutex::default() };
        let applied = decode_applied(tree.get(APPLIED_KEY)?.as_deref())?;
        *lock(&tree.positions) = (applied, applied);
        Ok(tree)
    }

    fn write(
        &self,
        durability: Durability,
        change: impl FnOnce(&WriteTransaction) -> Result<(), TreeError>,
    ) -> Result<(), TreeError> {
        let mut transaction = self.database.begin_write().map_err(engine_error)?;
        transaction.set_durability(durability).map_err(engine_error)?;
        change(&transaction)?;
        transaction.commit().map_err(engine_error)
    }

    fn table(&self) -> Result<Option<Table>, TreeError> {
        let transaction = self.database.begin_read().map_err(engine_error)?;
        match transaction.open_table(TABLE) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(engine_error(error)),
        }
    }
}

impl Tree for RedbTree {
    fn apply(&self, at: Lsn, batch: &Batch) -> Result<(), TreeError> {
        let mut positions = lock(&self.positions);
        if at <= positions.0 {
            return Err(TreeError::OutOfOrder { applied: positions.0, at });
        }
        self.write(Durability::None, |transaction| {
            let mut table = transaction.open_table(TABLE).map_err(engine_error)?;
            for (key, value) in batch.iter() {
                match value {
                    Some(value) => table.insert(&key[..], &value[..]).map_err(engine_error)?,
                    None => table.remove(&key[..]).map_err(engine_error)?,
                };
            }
            table.insert(APPLIED_KEY, &at.0.to_le_bytes()[..]).map_err(engine_error)?;
            Ok(())
        })?;
        positions.0 = at;
        Ok(())
    }

    fn applied(&self) -> Lsn {
        lock(&self.positions).0
    }

    fn durable(&self) -> Lsn {
        lock(&self.positions).1
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TreeError> {
        RedbPin { at: Lsn::ZERO, table: self.table()? }.get(key)
    }

    fn scan(&self, from: Bound<&[u8]>, until: Option<&[u8]>, count: usize) -> Result<Rows, TreeError> {
        RedbPin { at: Lsn::ZERO, table: self.table()? }.scan(from, until, count)
    }

    fn pin(&self) -> Result<Box<dyn Pin>, TreeError> {
        let positions = lock(&self.positions);
        Ok(Box::new(RedbPin { at: positions.0, table: self.table()? }))
    }

    fn flush(&self) -> Result<Lsn, TreeError> {
        let mut positions = lock(&self.positions);
        self.write(Durability::Immediate, |_| Ok(()))?;
        positions.1 = positions.0;
        Ok(positions.1)
    }

    fn load(&self, rows: &Rows) -> Result<(), TreeError> {
        check_sorted(rows)?;
        self.write(Durability::Immediate, |transaction| {
            let mut table = transaction.open_table(TABLE).map_err(engine_error)?;
            for (key, value) in rows {
                table.insert(&key[..], &value[..]).map_err(engine_error)?;
            }
            Ok(())
        })
    }

    fn maintain(&self) -> Result<(), TreeError> {
        Ok(())
    }

    fn unflushed_size_bytes(&self) -> u64 {
        0
    }

    fn size_bytes(&self) -> u64 {
        0
    }
}

struct RedbPin {
    at: Lsn,
    table: Option<Table>,
}

impl Pin for RedbPin {
    fn at(&self) -> Lsn {
        self.at
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TreeError> {
        let Some(table) = &self.table else { return Ok(None) };
        let row = ReadableTable::get(table, key).map_err(engine_error)?;
        Ok(row.map(|row| Bytes::copy_from_slice(row.value())))
    }

    fn scan(&self, from: Bound<&[u8]>, until: Option<&[u8]>, count: usize) -> Result<Rows, TreeError> {
        let Some(table) = &self.table else { return Ok(Rows::new()) };
        if let (Bound::Included(low) | Bound::Excluded(low), Some(high)) = (from, until)
            && low >= high
        {
            return Ok(Rows::new());
        }
        let bounds = (from, until.map_or(Bound::Unbounded, Bound::Excluded));
        let rows = ReadableTable::range::<&[u8]>(table, bounds).map_err(engine_error)?;
        rows.take(count)
            .map(|row| {
                let (key, value) = row.map_err(engine_error)?;
                Ok((Bytes::copy_from_slice(key.value()), Bytes::copy_from_slice(value.value())))
            })
            .collect()
    }
}
