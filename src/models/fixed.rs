//! Statements whose text never changes. Diesel prepares neither `sql_query` nor inserts of many rows
//! once per connection: their text could be anything. These take whole columns as arrays instead of
//! a row per value list, so that one text serves any number of rows, and are parsed and planned once.

use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;

/// `head`, then `binds` as a list with commas, then `tail`. `Id` names the text: one type for one
/// text. `Row` is the SQL type of what comes back.
pub(super) struct Fixed<Id, Binds, Row> {
    head: &'static str,
    binds: Binds,
    tail: &'static str,
    id: PhantomData<(Id, Row)>,
}

impl<Id, Binds, Row> Fixed<Id, Binds, Row> {
    /// The statement `head binds tail`; the binds are bound expressions, or a tuple of them.
    pub(super) fn new(_: Id, head: &'static str, binds: Binds, tail: &'static str) -> Self {
        Self { head, binds, tail, id: PhantomData }
    }
}

impl<Id: 'static, Binds, Row> QueryId for Fixed<Id, Binds, Row> {
    type QueryId = Id;

    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<Id, Binds: QueryFragment<Pg>, Row> QueryFragment<Pg> for Fixed<Id, Binds, Row> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(self.head);
        self.binds.walk_ast(out.reborrow())?;
        out.push_sql(self.tail);
        Ok(())
    }
}

impl<Id, Binds, Row> Query for Fixed<Id, Binds, Row> {
    type SqlType = Row;
}

impl<Id, Binds, Row, Conn> diesel::RunQueryDsl<Conn> for Fixed<Id, Binds, Row> {}
