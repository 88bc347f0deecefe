//! Statements as the rules see them. The only module that knows the parser.
//!
//! What the parser gives is turned into plain data at once: names without quotes, expressions as SQL text. A statement that no rule can
//! learn from is [`Statement::Other`]; one that cannot be parsed is an error, never a guess.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;

use sqlite3_parser::ast::fmt::ToTokens;
use sqlite3_parser::ast::{self, Cmd, Stmt};
use sqlite3_parser::lexer::sql::Parser;
use sqlite3_parser::{Bump, FallibleIterator};

use super::lex::{self, Kind, Token, quoted, unquoted};

/// How deep a statement may nest; SQLite's own limit is a thousand.
const DEPTH_MAX: usize = 1_000;
/// The longest statement that is parsed.
const STATEMENT_BYTES_MAX: usize = 1024 * 1024;

/// Functions that say something about a value and nothing of what it is.
const MEASURES: [&str; 4] = ["count", "length", "octet_length", "typeof"];

/// One statement.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are SQL's own")]
pub enum Statement {
    CreateTable {
        name: String,
        if_not_exists: bool,
        is_temporary: bool,
        table: TableDefinition,
    },
    CreateTableAs {
        name: String,
        if_not_exists: bool,
        is_temporary: bool,
        select: Select,
    },
    CreateIndex {
        name: String,
        if_not_exists: bool,
        is_unique: bool,
        table: String,
        columns: Vec<IndexPart>,
        condition: Option<Expression>,
    },
    /// A view or a trigger; `table` is the trigger's.
    CreateOther {
        kind: &'static str,
        name: String,
        table: Option<String>,
        if_not_exists: bool,
    },
    AddColumn {
        table: String,
        column: ColumnDefinition,
    },
    DropColumn {
        table: String,
        column: String,
    },
    RenameColumn {
        table: String,
        from: String,
        to: String,
    },
    RenameTable {
        table: String,
        to: String,
    },
    SetNotNull {
        table: String,
        column: String,
    },
    AddCheck {
        table: String,
        check: Expression,
    },
    DropTable {
        name: String,
    },
    /// An index, a view or a trigger.
    DropOther {
        name: String,
    },
    Insert {
        table: String,
        columns: Option<Vec<String>>,
        conflict: Conflict,
        select: Option<Select>,
    },
    Update {
        table: String,
        alias: Option<String>,
        sets: Vec<(String, Expression)>,
        condition: Option<Expression>,
        is_plain: bool,
        /// The text of what else it reads from: WITH and FROM.
        around: String,
    },
    Delete {
        table: String,
        alias: Option<String>,
        condition: Option<Expression>,
        is_plain: bool,
    },
    Pragma {
        name: String,
        value: Option<String>,
    },
    Begin,
    Commit,
    /// Nothing that a rule looks at.
    Other,
}

/// What an INSERT does with rows that are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// The statement fails.
    Fail,
    /// They are left out.
    Ignore,
    /// They take the place of others.
    Replace,
    /// `ON CONFLICT DO`.
    Upsert,
}

/// An expression as text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expression {
    /// The text.
    pub sql: String,
    /// The column's name, where the expression is nothing else.
    pub column: Option<String>,
    /// The type, where the expression is a CAST of a bare column, which stands in `column` then.
    pub cast: Option<String>,
    /// Whether it is the literal NULL.
    pub is_null: bool,
    /// Whether it is a literal.
    pub is_literal: bool,
}

impl Expression {
    /// Returns the names in it, in lower case.
    pub fn names(&self) -> BTreeSet<String> {
        lex::names(&self.sql)
    }

    /// Returns the names whose values might stand in its result: not those that are only measured, as in `length(a)`.
    pub fn carried_names(&self) -> BTreeSet<String> {
        lex::names(&lex::without_calls(&self.sql, &MEASURES))
    }

    /// Tells whether it puts nothing into a column: NULL, or an empty string.
    pub fn is_nothing(&self) -> bool {
        self.is_null || self.is_literal && matches!(self.sql.as_str(), "''" | "('')")
    }
}

/// A query.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Select {
    /// The text; empty where it would not say by itself what it means.
    pub sql: String,
    /// The text with the WITH before INSERT, where there is one.
    pub around: String,
    /// The columns, where it is one SELECT.
    pub columns: Vec<ResultColumn>,
    /// The tables after FROM, with aliases; none where there is more than tables.
    pub from: Vec<(String, Option<String>)>,
    /// Whether it is one SELECT from tables, without WITH, UNION or subqueries after FROM: [`Select::columns`] and [`Select::from`] say all.
    pub is_plain: bool,
    /// Whether each row of the only table gives one row at most, unchanged in number: no join, no DISTINCT, no GROUP BY.
    pub is_row_by_row: bool,
    /// Whether it is VALUES.
    pub is_values: bool,
    /// What its rows fulfil, where it is one SELECT.
    pub condition: Option<Expression>,
    /// Whether LIMIT cuts it.
    pub is_cut: bool,
}

/// One column of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultColumn {
    /// An expression, with the name that AS gives it.
    Expression(Expression, Option<String>),
    /// `*`
    Star,
    /// `table.*`
    TableStar(String),
}

/// One part of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexPart {
    /// What is indexed.
    pub expression: Expression,
    /// The collation, where one is named.
    pub collation: Option<String>,
}

/// What stands in the parentheses of CREATE TABLE.
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "the fields are SQL's own")]
pub struct TableDefinition {
    pub columns: Vec<ColumnDefinition>,
    pub primary_key: Vec<String>,
    /// Each with the number of the item in the parentheses that it stands in.
    pub uniques: Vec<(usize, Vec<IndexPart>)>,
    pub checks: Vec<(usize, Expression)>,
    pub foreign_keys: Vec<KeyDefinition>,
    pub without_rowid: bool,
    pub is_strict: bool,
}

/// A column's definition.
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "the fields are SQL's own")]
pub struct ColumnDefinition {
    pub name: String,
    pub declared_type: String,
    pub not_null: bool,
    pub default: Option<Expression>,
    pub collation: Option<String>,
    pub is_generated: bool,
    pub is_primary_key: bool,
    pub is_unique: bool,
    pub checks: Vec<Expression>,
    pub foreign_key: Option<KeyDefinition>,
}

/// A foreign key's definition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the fields are SQL's own")]
pub struct KeyDefinition {
    /// The number of the item in the parentheses of CREATE TABLE that it stands in.
    pub item: usize,
    pub columns: Vec<String>,
    pub parent: String,
    pub parent_columns: Vec<String>,
    pub on_delete: String,
}

/// Parses one statement, given with its tokens.
///
/// # Errors
/// Why it cannot be parsed.
pub fn parse(sql: &str, tokens: &[Token], text: &str) -> Result<Statement, String> {
    if sql.len() > STATEMENT_BYTES_MAX {
        return match tokens.first() {
            // Rows by the thousand are nothing to learn from, but for the table that they go into.
            Some(first) if first.is(text, "insert") || first.is(text, "replace") => Ok(bulk_insert(text, tokens)),
            _ => Err(format!("the statement is longer than {STATEMENT_BYTES_MAX} bytes")),
        };
    }
    if lex::depth_max(text, tokens) > DEPTH_MAX {
        return Err(format!("the statement nests deeper than {DEPTH_MAX}"));
    }
    if sql.contains('\0') {
        return Err("the statement holds a NUL byte".to_owned());
    }
    // The parser asserts what its grammar promises; should it be wrong about an input, that input is not parsed, and no more.
    let parsed = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let bump = Bump::new();
        let mut parser = Parser::new(&bump, sql.as_bytes());
        match parser.next() {
            Ok(Some(Cmd::Stmt(statement))) => Ok(convert(&statement)),
            Ok(_) => Ok(Statement::Other),
            Err(error) => Err(words(&error)),
        }
    }));
    parsed.unwrap_or_else(|_| Err("the parser does not know what to make of it".to_owned()))
}

fn words(error: &sqlite3_parser::lexer::sql::Error) -> String {
    use sqlite3_parser::lexer::sql::Error;
    match error {
        Error::ParserError(error, _) => error.to_string(),
        Error::UnterminatedLiteral(_) => "a string is not closed".to_owned(),
        Error::UnterminatedBracket(_) => "a name in brackets is not closed".to_owned(),
        Error::UnterminatedBlockComment(_) => "a comment is not closed".to_owned(),
        other => other.to_string().split(" at line").next().unwrap_or_default().to_owned(),
    }
}

fn bulk_insert(text: &str, tokens: &[Token]) -> Statement {
    let into = tokens.iter().take(6).position(|token| token.is(text, "into"));
    let table = into.and_then(|at| tokens.get(at + 1)?.name(text)).unwrap_or_default();
    Statement::Insert { table, columns: None, conflict: Conflict::Upsert, select: None }
}

/// Returns a name in this database; none for one in another.
fn table_name(name: &ast::QualifiedName<'_>) -> Option<String> {
    match &name.db_name {
        Some(database) if !unquoted(database.0).eq_ignore_ascii_case("main") => None,
        _ => Some(unquoted(name.name.0)),
    }
}

fn is_temp(name: &ast::QualifiedName<'_>) -> bool {
    name.db_name.as_ref().is_some_and(|database| unquoted(database.0).eq_ignore_ascii_case("temp"))
}

fn convert(statement: &Stmt<'_>) -> Statement {
    try_convert(statement).unwrap_or(Statement::Other)
}

fn try_convert(statement: &Stmt<'_>) -> Option<Statement> {
    Some(match statement {
        Stmt::CreateTable { temporary, if_not_exists, tbl_name, body } => {
            let is_temporary = *temporary || is_temp(tbl_name);
            let name = if is_temporary { unquoted(tbl_name.name.0) } else { table_name(tbl_name)? };
            let if_not_exists = *if_not_exists;
            match body {
                ast::CreateTableBody::AsSelect(query) => {
                    Statement::CreateTableAs { name, if_not_exists, is_temporary, select: select(query) }
                }
                ast::CreateTableBody::ColumnsAndConstraints { columns, constraints, flags } => {
                    let mut table = TableDefinition {
                        columns: columns.iter().map(column).collect(),
                        without_rowid: flags.contains(ast::TabFlags::WithoutRowid),
                        is_strict: flags.contains(ast::TabFlags::Strict),
                        ..TableDefinition::default()
                    };
                    for (item, column) in table.columns.iter().enumerate() {
                        let key = column.foreign_key.clone();
                        table.foreign_keys.extend(key.map(|key| KeyDefinition { item, ..key }));
                        table.checks.extend(column.checks.iter().map(|check| (item, check.clone())));
                        if column.is_unique {
                            let expression =
                                Expression { sql: quoted(&column.name), column: Some(column.name.clone()), ..Expression::default() };
                            table.uniques.push((item, vec![IndexPart { expression, collation: None }]));
                        }
                        if column.is_primary_key && table.primary_key.is_empty() {
                            table.primary_key.push(column.name.clone());
                        }
                    }
                    let first = table.columns.len();
                    for (at, constraint) in constraints.unwrap_or_default().iter().enumerate() {
                        table_constraint(&mut table, first + at, &constraint.constraint);
                    }
                    Statement::CreateTable { name, if_not_exists, is_temporary, table }
                }
            }
        }
        Stmt::CreateIndex { unique, if_not_exists, idx_name, tbl_name, columns, where_clause } => Statement::CreateIndex {
            name: table_name(idx_name)?,
            if_not_exists: *if_not_exists,
            is_unique: *unique,
            table: unquoted(tbl_name.0),
            columns: columns.iter().map(index_part).collect(),
            condition: where_clause.as_ref().map(expression),
        },
        Stmt::CreateView { view_name, if_not_exists, .. } => {
            Statement::CreateOther { kind: "view", name: table_name(view_name)?, table: None, if_not_exists: *if_not_exists }
        }
        Stmt::CreateTrigger { trigger_name, tbl_name, if_not_exists, .. } => Statement::CreateOther {
            kind: "trigger",
            name: table_name(trigger_name)?,
            table: Some(unquoted(tbl_name.name.0)),
            if_not_exists: *if_not_exists,
        },
        Stmt::CreateVirtualTable { tbl_name, if_not_exists, .. } => {
            Statement::CreateOther { kind: "table", name: table_name(tbl_name)?, table: None, if_not_exists: *if_not_exists }
        }
        Stmt::AlterTable(name, body) => alter(table_name(name)?, body),
        Stmt::DropTable { tbl_name, .. } => Statement::DropTable { name: unquoted(tbl_name.name.0) },
        Stmt::DropIndex { idx_name: name, .. } | Stmt::DropTrigger { trigger_name: name, .. } | Stmt::DropView { view_name: name, .. } => {
            Statement::DropOther { name: unquoted(name.name.0) }
        }
        Stmt::Insert { with, or_conflict, tbl_name, columns, body, .. } => {
            let (query, has_upsert) = match body {
                ast::InsertBody::Select(query, upsert) => (Some(select(query)), upsert.is_some()),
                ast::InsertBody::DefaultValues => (None, false),
            };
            let query = query.map(|query| Select { is_plain: query.is_plain && with.is_none(), ..query });
            // What a WITH before INSERT names stands nowhere in the text of the query.
            let query = match with {
                Some(with) => query.map(|query| Select { around: format!("{} {}", text_of(with), query.sql), sql: String::new(), ..query }),
                None => query,
            };
            Statement::Insert {
                table: table_name(tbl_name)?,
                columns: columns.as_ref().map(|names| names.iter().map(|name| unquoted(name.0)).collect()),
                conflict: match or_conflict {
                    _ if has_upsert => Conflict::Upsert,
                    Some(ast::ResolveType::Ignore) => Conflict::Ignore,
                    Some(ast::ResolveType::Replace) => Conflict::Replace,
                    _ => Conflict::Fail,
                },
                select: query,
            }
        }
        Stmt::Update { with, or_conflict, tbl_name, sets, from, where_clause, order_by, limit, .. } => {
            let around = [with.as_ref().map(text_of), from.as_ref().map(text_of)];
            let from = from.as_ref().is_some_and(|from| from.select.is_some());
            let is_single = sets.iter().all(|set| set.col_names.len() == 1);
            let set = |set: &ast::Set<'_>| {
                let value = expression(&set.expr);
                set.col_names.iter().map(|name| (unquoted(name.0), value.clone())).collect::<Vec<_>>()
            };
            Statement::Update {
                table: table_name(tbl_name)?,
                alias: tbl_name.alias.as_ref().map(|alias| unquoted(alias.0)),
                sets: sets.iter().flat_map(set).collect(),
                condition: where_clause.as_ref().map(expression),
                is_plain: with.is_none() && or_conflict.is_none() && !from && order_by.is_none() && limit.is_none() && is_single,
                around: without_main(&around.into_iter().flatten().collect::<Vec<_>>().join(" ")),
            }
        }
        Stmt::Delete { with, tbl_name, where_clause, order_by, limit, .. } => Statement::Delete {
            table: table_name(tbl_name)?,
            alias: tbl_name.alias.as_ref().map(|alias| unquoted(alias.0)),
            condition: where_clause.as_ref().map(expression),
            is_plain: with.is_none() && order_by.is_none() && limit.is_none(),
        },
        Stmt::Pragma(name, body) => Statement::Pragma {
            name: unquoted(name.name.0).to_ascii_lowercase(),
            value: body.as_ref().map(|body| match body {
                ast::PragmaBody::Equals(value) | ast::PragmaBody::Call(value) => unquoted(&text_of(value)).to_ascii_lowercase(),
            }),
        },
        Stmt::Begin(..) => Statement::Begin,
        Stmt::Commit(..) | Stmt::Rollback { savepoint_name: None, .. } => Statement::Commit,
        _ => Statement::Other,
    })
}

fn alter(table: String, body: &ast::AlterTableBody<'_>) -> Statement {
    use ast::AlterTableBody as Body;
    match body {
        Body::RenameTo(to) => Statement::RenameTable { table, to: unquoted(to.0) },
        Body::AddColumn(definition) => Statement::AddColumn { table, column: column(definition) },
        Body::DropColumn(name) => Statement::DropColumn { table, column: unquoted(name.0) },
        Body::RenameColumn { old, new } => Statement::RenameColumn { table, from: unquoted(old.0), to: unquoted(new.0) },
        Body::SetColumnNotNull(name, _) => Statement::SetNotNull { table, column: unquoted(name.0) },
        Body::AddConstraint(constraint) => match &constraint.constraint {
            ast::TableConstraint::Check(check, _) => Statement::AddCheck { table, check: expression(check) },
            _ => Statement::Other,
        },
        Body::DropColumnNotNull(_) | Body::DropConstraint(_) => Statement::Other,
    }
}

fn column(definition: &ast::ColumnDefinition<'_>) -> ColumnDefinition {
    use ast::ColumnConstraint as Constraint;
    let name = unquoted(definition.col_name.0);
    let mut column =
        ColumnDefinition { declared_type: definition.col_type.as_ref().map(type_of).unwrap_or_default(), ..Default::default() };
    for constraint in definition.constraints {
        match &constraint.constraint {
            Constraint::PrimaryKey { .. } => column.is_primary_key = true,
            Constraint::NotNull { nullable, conflict_clause } => {
                // With a conflict clause NULL may become the default; that is no refusal.
                column.not_null = !nullable && conflict_clause.is_none_or(|clause| clause != ast::ResolveType::Replace);
            }
            Constraint::Unique(clause) => column.is_unique = clause.is_none(),
            Constraint::Check(check) => column.checks.push(expression(check)),
            Constraint::Default(value) => column.default = Some(expression(value)),
            Constraint::Collate { collation_name } => column.collation = Some(unquoted(collation_name.0)),
            Constraint::ForeignKey { clause, .. } => column.foreign_key = Some(key(vec![name.clone()], clause)),
            Constraint::Generated { .. } => column.is_generated = true,
            Constraint::Defer(_) => {}
        }
    }
    ColumnDefinition { name, ..column }
}

fn table_constraint(table: &mut TableDefinition, item: usize, constraint: &ast::TableConstraint<'_>) {
    use ast::TableConstraint as Constraint;
    match constraint {
        Constraint::PrimaryKey { columns, .. } => {
            table.primary_key = columns.iter().map(|column| unquoted(&index_part(column).expression.sql)).collect();
        }
        Constraint::Unique { columns, conflict_clause: None } => table.uniques.push((item, columns.iter().map(index_part).collect())),
        Constraint::Unique { .. } => {}
        Constraint::Check(check, _) => table.checks.push((item, expression(check))),
        Constraint::ForeignKey { columns, clause, .. } => {
            let columns = columns.iter().map(|column| unquoted(column.col_name.0)).collect();
            table.foreign_keys.push(KeyDefinition { item, ..key(columns, clause) });
        }
    }
}

fn key(columns: Vec<String>, clause: &ast::ForeignKeyClause<'_>) -> KeyDefinition {
    let on_delete = clause.args.iter().rev().find_map(|argument| match argument {
        ast::RefArg::OnDelete(action) => Some(*action),
        _ => None,
    });
    KeyDefinition {
        item: 0,
        columns,
        parent: unquoted(clause.tbl_name.0),
        parent_columns: clause.columns.unwrap_or_default().iter().map(|column| unquoted(column.col_name.0)).collect(),
        on_delete: match on_delete {
            Some(ast::RefAct::Cascade) => "CASCADE",
            Some(ast::RefAct::SetNull) => "SET NULL",
            Some(ast::RefAct::SetDefault) => "SET DEFAULT",
            Some(ast::RefAct::Restrict) => "RESTRICT",
            _ => "NO ACTION",
        }
        .to_owned(),
    }
}

fn index_part(column: &ast::SortedColumn<'_>) -> IndexPart {
    match &column.expr {
        ast::Expr::Collate(inner, collation) => IndexPart { expression: expression(inner), collation: Some(unquoted(collation)) },
        other => IndexPart { expression: expression(other), collation: None },
    }
}

fn type_of(declared: &ast::Type<'_>) -> String {
    let size = match &declared.size {
        Some(ast::TypeSize::MaxSize(size)) => format!("({})", text_of(*size)),
        Some(ast::TypeSize::TypeSize(first, second)) => format!("({},{})", text_of(*first), text_of(*second)),
        None => String::new(),
    };
    format!("{}{size}", unquoted(declared.name))
}

fn expression(expression: &ast::Expr<'_>) -> Expression {
    let mut found = Expression { sql: without_main(&text_of(expression)), ..Expression::default() };
    let mut inner = expression;
    while let ast::Expr::Parenthesized(list) = inner
        && let [only] = list.as_slice()
    {
        inner = only;
    }
    match inner {
        ast::Expr::Cast { expr, type_name: Some(target) } => {
            found.column = bare_column(expr);
            found.cast = found.column.is_some().then(|| type_of(target));
        }
        ast::Expr::Literal(literal) => {
            found.is_literal = true;
            found.is_null = matches!(literal, ast::Literal::Null);
        }
        ast::Expr::Unary(ast::UnaryOperator::Negative | ast::UnaryOperator::Positive, operand) => {
            found.is_literal = matches!(operand, ast::Expr::Literal(_));
        }
        other => found.column = bare_column(other),
    }
    found
}

fn bare_column(expression: &ast::Expr<'_>) -> Option<String> {
    match expression {
        ast::Expr::Id(id) => Some(unquoted(id.0)),
        ast::Expr::Name(name) | ast::Expr::Qualified(_, name) | ast::Expr::DoublyQualified(_, _, name) => Some(unquoted(name.0)),
        _ => None,
    }
}

fn select(query: &ast::Select<'_>) -> Select {
    let mut found = Select { sql: without_main(&text_of(query)), is_cut: query.limit.is_some(), ..Select::default() };
    match &query.body.select {
        ast::OneSelect::Values(_) => found.is_values = query.body.compounds.is_none() && query.with.is_none(),
        ast::OneSelect::Select { distinctness, columns, from, where_clause, group_by, .. } => {
            found.condition = where_clause.as_ref().map(|condition| expression(condition));
            let as_name = |name: &ast::As<'_>| match name {
                ast::As::As(name) | ast::As::Elided(name) => unquoted(name.0),
            };
            found.columns = columns
                .iter()
                .map(|column| match column {
                    ast::ResultColumn::Expr(value, name) => ResultColumn::Expression(expression(value), name.as_ref().map(as_name)),
                    ast::ResultColumn::Star => ResultColumn::Star,
                    ast::ResultColumn::TableStar(name) => ResultColumn::TableStar(unquoted(name.0)),
                })
                .collect();
            let first = from.as_ref().and_then(|from| from.select);
            let joins = from.as_ref().and_then(|from| from.joins.as_ref());
            let others = joins.map(|joins| joins.as_slice()).unwrap_or_default().iter().map(|join| &join.table);
            let tables: Vec<_> = first.into_iter().chain(others).collect();
            for table in &tables {
                if let ast::SelectTable::Table(name, alias, _) = table
                    && let Some(name) = table_name(name)
                {
                    found.from.push((name, alias.as_ref().map(as_name)));
                }
            }
            found.is_plain = query.with.is_none() && query.body.compounds.is_none() && found.from.len() == tables.len();
            found.is_row_by_row = found.is_plain && tables.len() == 1 && distinctness.is_none() && group_by.is_none();
        }
    }
    found
}

struct Shown<'a, T>(&'a T);

impl<T: ToTokens> std::fmt::Display for Shown<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.to_fmt(f)
    }
}

fn text_of<T: ToTokens>(node: &T) -> String {
    Shown(node).to_string()
}

/// Takes `main.` away from names of tables, so that they mean what stands under that name when a question is asked.
fn without_main(sql: &str) -> String {
    let tokens = lex::lex(sql).tokens;
    let mut kept = String::with_capacity(sql.len());
    let mut from = 0;
    for window in tokens.windows(3) {
        let [first, dot, _] = window else { continue };
        let is_main = first.name(sql).is_some_and(|name| name.eq_ignore_ascii_case("main")) && first.kind != Kind::Text;
        if is_main && dot.kind == Kind::Dot && first.start >= from {
            kept.push_str(sql.get(from..first.start).unwrap_or_default());
            from = dot.end;
        }
    }
    kept.push_str(sql.get(from..).unwrap_or_default());
    kept
}

/// Reads one statement from its text alone.
///
/// # Errors
/// Why it cannot be parsed.
pub fn parse_text(sql: &str) -> Result<Statement, String> {
    parse(sql, &lex::lex(sql).tokens, sql)
}

/// Writes a list of names, quoted.
pub fn name_list(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    names.into_iter().map(|name| quoted(name.as_ref())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_lose_their_quotes_and_their_database() {
        let Ok(Statement::CreateTable { name, table, .. }) =
            parse_text("CREATE TABLE main.[new users] (`id` integer PRIMARY KEY, \"a b\" varchar(10) NOT NULL DEFAULT 'x' UNIQUE) STRICT")
        else {
            panic!("a table");
        };
        assert_eq!((name.as_str(), table.is_strict, table.primary_key.as_slice()), ("new users", true, &["id".to_owned()][..]));
        let column = &table.columns[1];
        assert_eq!((column.name.as_str(), column.declared_type.as_str(), column.not_null), ("a b", "varchar(10)", true));
        assert!(column.is_unique && column.default.as_ref().is_some_and(|value| value.is_literal && value.sql == "'x'"));
    }

    #[test]
    fn queries_keep_their_text_without_the_name_of_the_database() {
        let Ok(Statement::Insert { select: Some(select), columns, .. }) =
            parse_text("INSERT INTO n(a,b) SELECT u.a, CAST(b AS INTEGER) FROM main.users AS u WHERE u.a<>'main.x'")
        else {
            panic!("an insert");
        };
        assert_eq!(columns, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert!(!select.sql.contains("main.users") && select.sql.contains("'main.x'"), "{}", select.sql);
        assert_eq!(select.from, [("users".to_owned(), Some("u".to_owned()))]);
        let casts: Vec<_> = select
            .columns
            .iter()
            .map(|column| match column {
                ResultColumn::Expression(value, _) => (value.column.clone(), value.cast.clone()),
                _ => (None, None),
            })
            .collect();
        assert_eq!(casts, [(Some("a".to_owned()), None), (Some("b".to_owned()), Some("INTEGER".to_owned()))]);
        assert!(select.is_row_by_row);
    }

    #[test]
    fn what_nests_too_deep_or_is_cut_short_is_not_parsed() {
        for sql in [
            format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
            format!("SELECT 1{}", "+1".repeat(100_000)),
            format!("SELECT {}1", "NOT ".repeat(100_000)),
            format!("SELECT {}1", "- ".repeat(100_000)),
            "SELECT 'open".to_owned(),
            "SELECT 1 /* open".to_owned(),
            "SELECT [open".to_owned(),
            "ALTER TABLE t ALTER COLUMN a TYPE int".to_owned(),
            "SELECT '\0'".to_owned(),
        ] {
            assert!(parse_text(&sql).is_err(), "{:.60}", sql);
        }
        assert!(parse_text(&format!("SELECT 1{}", "+1".repeat(900))).is_ok());
        assert!(parse_text(&format!("SELECT {}1{}", "(".repeat(900), ")".repeat(900))).is_ok());
    }

    const WORDS: &[&str] = &[
        "CREATE",
        "TABLE",
        "INDEX",
        "UNIQUE",
        "a",
        "\"b\"",
        "`c`",
        "[d]",
        "'e'",
        "(",
        ")",
        ",",
        ";",
        "SELECT",
        "FROM",
        "WHERE",
        "NOT",
        "NULL",
        "ALTER",
        "ADD",
        "COLUMN",
        "DROP",
        "RENAME",
        "TO",
        "INSERT",
        "INTO",
        "VALUES",
        "UPDATE",
        "SET",
        "DELETE",
        "WITH",
        "AS",
        "CASE",
        "WHEN",
        "END",
        "BEGIN",
        "TRIGGER",
        "1",
        "1e",
        "0x",
        "x'0",
        "x'00'",
        ".",
        "?",
        "@",
        ":a",
        "--",
        "/*",
        "*/",
        "\n",
        "é",
        "\u{0}",
        "#",
        "OVER",
        "FILTER",
        "WINDOW",
        "PRAGMA",
        "=",
        "->>",
        "!",
        "|",
        "INTEGER",
        "PRIMARY KEY",
        "GENERATED ALWAYS",
        "REFERENCES",
        "ON",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
            let _ = parse_text(&text);
        }

        #[test]
        fn no_order_of_words_makes_the_parser_panic(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..30)) {
            let _ = parse_text(&words.join(" "));
            let _ = parse_text(&words.concat());
        }
    }
}
