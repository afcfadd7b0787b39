// The types every PostgreSQL server has under the same number, from 14 to 18. Numbers below 10000
// are assigned by hand in the server's pg_type.dat and never change; from there to 16383 initdb
// assigns them anew for each version, so those types (the domains of information_schema, the rows
// of system views) are looked up in the catalogue like a user's. So are the rows of system tables.
// https://github.com/postgres/postgres/blob/master/src/include/catalog/pg_type.dat

package import WeirCore

/// The type with this number, named as `pg_type.typname` names it; nil if it is not built in.
///
/// The class is the one `row_to_json` has for it: whatever it shows as a string is `text`.
/// Complexity: O(1). Used per relation, not per event.
package func builtinType(oid: UInt32) -> ColumnType? {
    builtinTypes[oid]
}

private let builtinTypes: [UInt32: ColumnType] = {
    var types: [UInt32: ColumnType] = [
        22: ColumnType(.integer, array: .vector, name: "int2vector"),
        30: ColumnType(.text, array: .vector, name: "oidvector"),
        // Arrays of these are arrays of arrays to `row_to_json`; no rule of ours fits them.
        1006: ColumnType(.opaque, name: "_int2vector"),
        1013: ColumnType(.opaque, name: "_oidvector"),
    ]
    for type in builtins {
        types[type.oid] = ColumnType(type.valueClass, name: type.name)
        if let array = type.array {
            types[array] = ColumnType(
                type.valueClass,
                array: .literal(delimiter: type.delimiter),
                name: "_" + type.name
            )
        }
    }
    return types
}()

/// A type and its array type, whose name is the same after an underscore.
private struct Builtin {
    let oid: UInt32
    let name: String
    let valueClass: TypeClass
    let array: UInt32?
    let delimiter: UInt8

    init(
        _ oid: UInt32,
        _ name: String,
        _ valueClass: TypeClass = .text,
        array: UInt32? = nil,
        delimiter: UInt8 = UInt8(ascii: ",")
    ) {
        self.oid = oid
        self.name = name
        self.valueClass = valueClass
        self.array = array
        self.delimiter = delimiter
    }
}

private let builtins: [Builtin] = [
    Builtin(16, "bool", .boolean, array: 1000),
    Builtin(17, "bytea", array: 1001),
    Builtin(18, "char", array: 1002),
    Builtin(19, "name", array: 1003),
    Builtin(20, "int8", .int64, array: 1016),
    Builtin(21, "int2", .integer, array: 1005),
    Builtin(23, "int4", .integer, array: 1007),
    Builtin(24, "regproc", array: 1008),
    Builtin(25, "text", array: 1009),
    Builtin(26, "oid", array: 1028),
    Builtin(27, "tid", array: 1010),
    Builtin(28, "xid", array: 1011),
    Builtin(29, "cid", array: 1012),
    Builtin(114, "json", .json, array: 199),
    Builtin(142, "xml", array: 143),
    Builtin(194, "pg_node_tree"),
    Builtin(600, "point", array: 1017),
    Builtin(601, "lseg", array: 1018),
    Builtin(602, "path", array: 1019),
    Builtin(603, "box", array: 1020, delimiter: UInt8(ascii: ";")),
    Builtin(604, "polygon", array: 1027),
    Builtin(628, "line", array: 629),
    Builtin(650, "cidr", array: 651),
    Builtin(700, "float4", .float, array: 1021),
    Builtin(701, "float8", .float, array: 1022),
    Builtin(718, "circle", array: 719),
    Builtin(774, "macaddr8", array: 775),
    Builtin(790, "money", array: 791),
    Builtin(829, "macaddr", array: 1040),
    Builtin(869, "inet", array: 1041),
    Builtin(1033, "aclitem", array: 1034),
    Builtin(1042, "bpchar", array: 1014),
    Builtin(1043, "varchar", array: 1015),
    Builtin(1082, "date", array: 1182),
    Builtin(1083, "time", array: 1183),
    Builtin(1114, "timestamp", .timestamp, array: 1115),
    Builtin(1184, "timestamptz", .timestampTZ, array: 1185),
    Builtin(1186, "interval", array: 1187),
    Builtin(1266, "timetz", array: 1270),
    Builtin(1560, "bit", array: 1561),
    Builtin(1562, "varbit", array: 1563),
    Builtin(1700, "numeric", .numeric, array: 1231),
    Builtin(1790, "refcursor", array: 2201),
    Builtin(2202, "regprocedure", array: 2207),
    Builtin(2203, "regoper", array: 2208),
    Builtin(2204, "regoperator", array: 2209),
    Builtin(2205, "regclass", array: 2210),
    Builtin(2206, "regtype", array: 2211),
    Builtin(2950, "uuid", array: 2951),
    Builtin(2970, "txid_snapshot", array: 2949),
    Builtin(3220, "pg_lsn", array: 3221),
    Builtin(3361, "pg_ndistinct"),
    Builtin(3402, "pg_dependencies"),
    Builtin(3614, "tsvector", array: 3643),
    Builtin(3615, "tsquery", array: 3645),
    Builtin(3642, "gtsvector", array: 3644),
    Builtin(3734, "regconfig", array: 3735),
    Builtin(3769, "regdictionary", array: 3770),
    Builtin(3802, "jsonb", .json, array: 3807),
    Builtin(3904, "int4range", array: 3905),
    Builtin(3906, "numrange", array: 3907),
    Builtin(3908, "tsrange", array: 3909),
    Builtin(3910, "tstzrange", array: 3911),
    Builtin(3912, "daterange", array: 3913),
    Builtin(3926, "int8range", array: 3927),
    Builtin(4072, "jsonpath", array: 4073),
    Builtin(4089, "regnamespace", array: 4090),
    Builtin(4096, "regrole", array: 4097),
    Builtin(4191, "regcollation", array: 4192),
    Builtin(4451, "int4multirange", array: 6150),
    Builtin(4532, "nummultirange", array: 6151),
    Builtin(4533, "tsmultirange", array: 6152),
    Builtin(4534, "tstzmultirange", array: 6153),
    Builtin(4535, "datemultirange", array: 6155),
    Builtin(4536, "int8multirange", array: 6157),
    Builtin(4600, "pg_brin_bloom_summary"),
    Builtin(4601, "pg_brin_minmax_multi_summary"),
    Builtin(5017, "pg_mcv_list"),
    Builtin(5038, "pg_snapshot", array: 5039),
    Builtin(5069, "xid8", array: 271),
]
