package import WeirCore
import WeirMongoDBClient
import WeirValues

extension MongoConnection {
    /// What the names stand for that exist: `collection`, `view`, `timeseries`, or a system
    /// collection. Only collections have change streams: one of their database never shows the
    /// others. What the user may not see is missing.
    func kinds(of names: [TableName]) throws(MongoFailure) -> [TableName: String] {
        var found: [TableName: String] = [:]
        for name in names where name.name.hasPrefix("system.") { found[name] = "system collection" }
        for database in Set(names.map(\.schema)).sorted() {
            let collections = names.filter { $0.schema == database }.map(\.name)
            for (name, kind) in try list(database, only: collections) {
                let name = TableName(schema: database, name: name)
                found[name] = found[name] ?? kind
            }
        }
        return found
    }

    /// - Parameter names: nil for all that the user may see.
    func list(
        _ database: String, only names: [String]?
    ) throws(MongoFailure) -> [(name: String, kind: String)] {
        var command = BSONWriter()
        command.append("listCollections", int32: 1)
        if let names {
            command.appendDocument("filter") { filter in
                filter.appendDocument("name") { $0.append("$in", strings: names) }
            }
        }
        command.append("nameOnly", true)
        command.append("authorizedCollections", true)
        var found: [(name: String, kind: String)] = []
        unsafe try visit(command.bytes, database: database) { document in
            guard var cursor = unsafe BSONCursor(document) else { return }
            var name: String?
            var kind: String?
            while cursor.next() {
                if cursor.isNamed("name") { name = cursor.text }
                if cursor.isNamed("type") { kind = cursor.text }
            }
            if let name, let kind { found.append((name, kind)) }
        }
        return found
    }
}

extension MongoSource: SourceTables {
    /// The collections of the source; none where it follows a whole deployment.
    package func tables() async throws(WeirError) -> [TableSchema] {
        let names: [TableName]
        switch config.scope {
        case .collections(let listed): names = listed
        case .deployment: return []
        case .database(let database):
            guard let connection else {
                throw WeirError(.mongoConnectionFailed, .transient, "the source is not open")
            }
            do throws(MongoFailure) {
                names = try connection.list(database, only: nil)
                    .filter { $0.kind == "collection" && !$0.name.hasPrefix("system.") }
                    .map { TableName(schema: database, name: $0.name) }
            } catch {
                throw failures.error(error, doing: "look at the collections")
            }
        }
        return names.map { .collection(version: 0, database: $0.schema, name: $0.name) }
    }
}

extension MongoSource {
    /// What works, but not as somebody may think.
    func raiseFindings(_ facts: ServerFacts, scope former: String?, scope now: String?) {
        for name in missing {
            context.reports.raise(
                Finding(
                    .collectionMissing, .warning, "\(name)",
                    "there is no collection \"\(name)\", or the user may not see it",
                    detail: "Its changes are delivered from when it is created.",
                    hint: ErrorCode.collectionMissing.remedy))
        }
        if !facts.hasImages {
            let older =
                facts.refusesImages ? ", whose feature compatibility version is below 6.0," : ""
            context.reports.raise(
                Finding(
                    .noImages, .warning, config.url.place,
                    "MongoDB \(facts.version)\(older) keeps no images: the documents of updates are "
                        + "looked up, and may be later than the change",
                    hint: ErrorCode.noImages.remedy))
        }
        if let former, let now, former != now {
            context.reports.raise(
                Finding(
                    .scopeChanged, .warning, now,
                    "the change stream covered \(former), it covers \(now) now",
                    detail: "What was outside of it before is not delivered for the time before.",
                    hint: ErrorCode.scopeChanged.remedy))
        }
    }

    /// A collection that was missing has come.
    func settleMissing(_ tables: [TableSchema]) {
        for table in tables {
            let name = TableName(schema: table.schema, name: table.name)
            guard missing.remove(name) != nil else { continue }
            context.reports.settle(.collectionMissing, "\(name)")
        }
    }
}
