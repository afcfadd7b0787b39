import Testing

/// What `connectors/postgres/CORRECTNESS.md` promises, item by item, on real servers. One test at a
/// time: they share servers, and some count on answering within a second.
@Suite(.serialized) struct PostgresSourceTests {}
