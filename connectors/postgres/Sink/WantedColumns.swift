import WeirCore
import WeirValues

/// A column the configuration asks for, before it is known what the target has.
struct WantedColumn: Sendable {
    /// The target's column.
    let output: String
    let source: FieldReference
    /// `columns` names it.
    let isNamed: Bool
    /// The source's column, where the whole of it is written.
    let column: Column?
    /// What a target's column is made of; nil for a value inside another.
    let type: ColumnType?
}

/// What is to be written of one version of a source table. Pure.
struct WantedColumns: Sendable {
    private(set) var all: [WantedColumn]
    /// The places of the key's columns in `all`, in the order of the source's key.
    let key: [Int]
    /// Rows are told apart by the key.
    let isKeyed: Bool

    /// - Throws: when the configuration names what the table does not have, or leaves out the key.
    init(_ schema: TableSchema, _ config: PostgresSinkConfig) throws(WeirError) {
        all =
            schema.isCollection
            ? try Self.ofDocuments(schema, config) : try Self.ofRows(schema, config)
        key = try Self.key(schema, all)
        isKeyed = schema.isKeyUnique && !key.isEmpty
    }

    private static func ofRows(
        _ schema: TableSchema, _ config: PostgresSinkConfig
    ) throws(WeirError) -> [WantedColumn] {
        guard let columns = config.columns else {
            return schema.columns.indices.map { index in
                WantedColumn(
                    output: schema.columns[index].name,
                    source: FieldReference(column: index, of: schema), isNamed: false,
                    column: schema.columns[index], type: schema.columns[index].type)
            }
        }
        var wanted: [WantedColumn] = []
        for choice in columns {
            guard let path = FieldPath(choice.source) else { continue }
            let reference: FieldReference
            if path.isOfOtherVersion(of: schema) {
                continue
            } else if config.tables.count == 1 {
                reference = try path.find(in: schema, namedUnder: "columns")
            } else {
                guard let found = path.resolve(in: schema) else { continue }
                reference = found
            }
            let column = reference.isWholeColumn ? schema.columns[reference.column] : nil
            wanted.append(
                WantedColumn(
                    output: choice.output, source: reference, isNamed: true, column: column,
                    type: column?.type))
        }
        return wanted
    }

    private static let idName = "_id"
    private static let documentName = "document"

    /// The `_id` and the chosen paths, or the whole document.
    private static func ofDocuments(
        _ schema: TableSchema, _ config: PostgresSinkConfig
    ) throws(WeirError) -> [WantedColumn] {
        func wanted(_ output: String, _ source: String, isNamed: Bool) -> WantedColumn? {
            guard let path = FieldPath(source),
                let found = path.resolve(in: schema, options: config.options)
            else { return nil }
            return WantedColumn(
                output: output, source: found, isNamed: isNamed, column: nil,
                type: found.isWholeColumn ? ColumnType(.json, name: "jsonb") : nil)
        }
        let choices =
            config.columns
            ?? [ColumnChoice(output: documentName, source: TableSchema.wholeDocument)]
        var all = choices.compactMap {
            wanted($0.output, $0.source, isNamed: config.columns != nil)
        }
        guard let id = wanted(idName, idName, isNamed: false),
            !all.contains(where: { $0.source.isSamePlace(as: id.source) })
        else { return all }
        if all.contains(where: { $0.output == id.output }) {
            throw WeirError(
                .keyNotChosen, .blocked,
                "\"columns\" gives the name \"\(id.output)\" to another value, and leaves out "
                    + "the _id of \"\(TableName(schema: schema.schema, name: schema.name))\"",
                hint: "Name one of them otherwise, such as \"id\": \"_id\".")
        }
        all.insert(id, at: 0)
        return all
    }

    private static func key(
        _ schema: TableSchema, _ wanted: [WantedColumn]
    ) throws(WeirError) -> [Int] {
        var key: [Int] = []
        for reference in schema.keyReferences {
            if let index = wanted.firstIndex(where: { $0.source.isSamePlace(as: reference) }) {
                key.append(index)
            } else if schema.isKeyUnique {
                let name = schema.columns[reference.column].name
                throw WeirError(
                    .keyNotChosen, .blocked,
                    "\"columns\" leaves out \"\(name)\", a column of the key of "
                        + "\"\(TableName(schema: schema.schema, name: schema.name))\"",
                    hint: "Add it to \"columns\".")
            }
        }
        return key
    }
}
