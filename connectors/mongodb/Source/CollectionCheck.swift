import WeirCore
import WeirMongoDBClient
import WeirValues

extension MongoConnection {
    /// Those of the names that are views, time series or the server's own, with what they are. They
    /// have no change streams: a stream of their database never shows them. What the user may not
    /// see is no collection of another kind.
    func otherThanCollections(
        _ names: [TableName]
    ) throws(MongoFailure) -> [(name: TableName, kind: String)] {
        var found = names.filter { $0.name.hasPrefix("system.") }
            .map { (name: $0, kind: "system collection") }
        for database in Set(names.map(\.schema)).sorted() {
            let collections = names.filter { $0.schema == database }.map(\.name)
            var command = BSONWriter()
            command.append("listCollections", int32: 1)
            command.appendDocument("filter") { filter in
                filter.appendDocument("name") { $0.append("$in", strings: collections) }
            }
            command.append("nameOnly", true)
            command.append("authorizedCollections", true)
            unsafe try visit(command.bytes, database: database) { document in
                guard var cursor = unsafe BSONCursor(document) else { return }
                var name: String?
                var kind: String?
                while cursor.next() {
                    if cursor.isNamed("name") { name = cursor.text }
                    if cursor.isNamed("type") { kind = cursor.text }
                }
                guard let name, let kind, kind != "collection" else { return }
                found.append((TableName(schema: database, name: name), kind))
            }
        }
        return found
    }
}
