import Testing
import WeirCore
import WeirPostgresSource
import WeirTesting

struct BuiltinTypesTests {
    /// Every type with a number of its own, but rows and pseudo-types, which no table's column is.
    @Test(arguments: PostgresVersion.allCases)
    func tableAgreesWithTheServer(version: PostgresVersion) async throws {
        let server = try await PostgresServer.start(version: version)
        let rows = try server.psql(
            """
            SELECT t.oid, t.typname, coalesce(e.oid, 0), coalesce(e.typname, ''), t.typdelim,
                t.typsubscript = 'array_subscript_handler'::regproc
            FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem
            WHERE t.oid < 10000 AND t.typtype IN ('b', 'r', 'm')
                AND coalesce(e.typtype, 'b') IN ('b', 'r', 'm')
            ORDER BY t.oid
            """
        )
        var count = 0
        for row in rows.split(separator: "\n") {
            let fields = row.split(separator: "|", omittingEmptySubsequences: false)
            let oid = try #require(UInt32(fields[0]))
            let isArray = fields[5] == "t"
            let type = try #require(builtinType(oid: oid), "\(row)")
            #expect(type.name == fields[1])
            #expect(type.array == shape(isArray, element: fields[3], fields[4], fields[1]))
            #expect(type.valueClass == valueClass(isArray ? fields[3] : fields[1]), "\(row)")
            count += 1
        }
        #expect(count > 150)
    }

    @Test(arguments: PostgresVersion.allCases)
    func everythingElseIsLeftToTheCatalogue(version: PostgresVersion) async throws {
        let server = try await PostgresServer.start(version: version)
        let rows = try server.psql(
            """
            SELECT t.oid FROM pg_catalog.pg_type t
                LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem
            WHERE t.oid >= 10000 OR t.typtype IN ('c', 'p', 'd') OR e.typtype IN ('c', 'p')
            """
        )
        for row in rows.split(separator: "\n") {
            #expect(builtinType(oid: try #require(UInt32(row))) == nil, "\(row)")
        }
        #expect(builtinType(oid: 0) == nil)
    }

    private func shape(
        _ isArray: Bool,
        element: Substring,
        _ delimiter: Substring,
        _ name: Substring
    ) -> ArrayShape {
        if name == "int2vector" || name == "oidvector" { return .vector }
        if !isArray || element == "int2vector" || element == "oidvector" { return .scalar }
        return .literal(delimiter: delimiter.utf8.first ?? 0)
    }

    /// What json_categorize_type of the server's json.c says.
    private func valueClass(_ name: Substring) -> TypeClass {
        switch name {
        case "bool": .boolean
        case "int2", "int4": .integer
        case "int8": .int64
        case "float4", "float8": .float
        case "numeric": .numeric
        case "json", "jsonb": .json
        case "timestamp": .timestamp
        case "timestamptz": .timestampTZ
        case "int2vector", "oidvector": .opaque
        default: .text
        }
    }
}
