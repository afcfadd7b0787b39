import Testing

/// What `connectors/mongodb/CORRECTNESS.md` promises, item by item, on real servers. One test at a
/// time: they share a server, and some make it fail commands.
@Suite(.serialized) struct MongoSourceTests {}
