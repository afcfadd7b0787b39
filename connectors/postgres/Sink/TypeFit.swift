import WeirCore

/// A type by the name `pg_type` has for it, with its modifiers: `numeric` and `[10, 2]`.
struct ModifiedType: Sendable, Equatable {
    let name: String
    let modifiers: [Int]
    let isArray: Bool

    init(_ name: String, _ modifiers: [Int] = [], isArray: Bool = false) {
        self.name = name
        self.modifiers = modifiers
        self.isArray = isArray
    }

    /// - Parameters:
    ///   - name: as `pg_type.typname` or `schema.typname`; an array's begins with an underscore.
    ///   - sql: as `format_type` writes it, such as `numeric(10,2)[]`; only its modifiers are
    /// taken.
    init(typeName name: String, sql: String?) {
        let own = name.hasPrefix("pg_catalog.") ? String(name.dropFirst(11)) : name
        isArray = own.hasPrefix("_")
        self.name = isArray ? String(own.dropFirst()) : own
        modifiers = sql.map(Self.modifiers) ?? []
    }

    /// The numbers in the first parentheses, if nothing else is there.
    static func modifiers(_ sql: String) -> [Int] {
        guard !sql.contains("\""), let open = sql.firstIndex(of: "("),
            let close = sql[open...].firstIndex(of: ")")
        else { return [] }
        let parts = sql[sql.index(after: open)..<close].split(separator: ",")
        let numbers = parts.compactMap { Int($0.filter { $0 != " " }) }
        return numbers.count == parts.count ? numbers : []
    }
}

/// Whether values of a source's type fit a target's column. Pure, and on the safe side of silence:
/// what may be refused or change is said, what is refused whatever the value is an error.
enum TypeFit: Equatable {
    case fits
    /// Taken, but not as it was.
    case changes(String)
    case mayBeRefused(String)
    /// No value but NULL.
    case never

    init(_ source: ModifiedType, into target: ModifiedType) {
        self = Self.judge(source, target)
    }

    private static let texts: Set<String> = ["text", "citext", "varchar", "bpchar", "name", "xml"]
    private static let integers = ["int2": 5, "int4": 10, "int8": 19]
    /// The most characters a value of the type takes as text.
    private static let widths = [
        "bool": 1, "int2": 6, "int4": 11, "int8": 20, "oid": 10, "uuid": 36, "date": 13,
        "char": 1, "macaddr": 17,
    ]
    private static let digits: Set<String> = [
        "int2", "int4", "int8", "oid", "float4", "float8", "numeric",
    ]
    private static let times: Set<String> = [
        "date", "time", "timetz", "timestamp", "timestamptz", "interval",
    ]

    private static func judge(_ source: ModifiedType, _ target: ModifiedType) -> TypeFit {
        if source.isArray != target.isArray {
            if source.isArray, isUnboundedText(target) { return .fits }
            return source.isArray && kind(target.name) != nil
                ? .never : .mayBeRefused("an array is not written as a single value is")
        }
        if isUnboundedText(target) { return .fits }
        if source.name == target.name { return sameName(source, target) }
        if isText(target) { return intoText(source, target) }
        if isText(source) { return .mayBeRefused("a text may be no value of the target's type") }
        if digits.contains(source.name), digits.contains(target.name) {
            return numbers(source, target)
        }
        if let fit = timesFit(source, target) { return fit }
        if Set([source.name, target.name]) == ["json", "jsonb"] { return .fits }
        if neverFits(source.name, target.name) { return .never }
        return .mayBeRefused("the types differ")
    }

    private static func isText(_ type: ModifiedType) -> Bool { texts.contains(type.name) }

    private static func isUnboundedText(_ type: ModifiedType) -> Bool {
        ["text", "citext"].contains(type.name)
            || type.name == "varchar" && type.modifiers.isEmpty
    }

    private enum Kind {
        case boolean, uuid, integer, number, time
    }

    private static func kind(_ name: String) -> Kind? {
        if name == "bool" { return .boolean }
        if name == "uuid" { return .uuid }
        if integers[name] != nil || name == "oid" { return .integer }
        if digits.contains(name) { return .number }
        return times.contains(name) ? .time : nil
    }

    /// Kinds whose texts have no value in common.
    private static func neverFits(_ source: String, _ target: String) -> Bool {
        guard let from = kind(source), let into = kind(target), from != into else { return false }
        switch (from, into) {
        // 0 and 1 are booleans to the server, a number may be a date, and infinity is both.
        case (.integer, .boolean), (.number, .boolean), (.integer, .time), (.number, .time),
            (.time, .number):
            return false
        default: return true
        }
    }

    // MARK: Kinds

    private static func sameName(_ source: ModifiedType, _ target: ModifiedType) -> TypeFit {
        if source.modifiers == target.modifiers || target.modifiers.isEmpty { return .fits }
        switch source.name {
        case "numeric": return numeric(source, target)
        case "varchar", "bpchar", "varbit":
            guard let from = source.modifiers.first, let into = target.modifiers.first else {
                return .mayBeRefused("the source's has no limit")
            }
            return from <= into ? .fits : .mayBeRefused("longer values are refused")
        case "bit": return .mayBeRefused("a bit string must be of the very length")
        case _ where times.contains(source.name):
            let into = target.modifiers.first ?? 6
            return (source.modifiers.first ?? 6) <= into
                ? .fits : .changes("fractions of a second are rounded")
        default: return .mayBeRefused("the types' modifiers differ")
        }
    }

    private static func numeric(_ source: ModifiedType, _ target: ModifiedType) -> TypeFit {
        let scale = target.modifiers.count > 1 ? target.modifiers[1] : 0
        let whole = (target.modifiers.first ?? 0) - scale
        guard let precision = source.modifiers.first else {
            return .mayBeRefused(
                "values of more than \(whole) digits before the point are refused, and digits "
                    + "behind the \(scale)th after it rounded off")
        }
        let sourceScale = source.modifiers.count > 1 ? source.modifiers[1] : 0
        if precision - sourceScale > whole {
            return .mayBeRefused("values of more than \(whole) digits before the point are refused")
        }
        return sourceScale > scale
            ? .changes("digits behind the \(scale)th after the point are rounded off") : .fits
    }

    private static func numbers(_ source: ModifiedType, _ target: ModifiedType) -> TypeFit {
        let from = integerDigits(source)
        if target.name != "numeric", let into = integerDigits(target) {
            guard let from else { return .mayBeRefused("fractions are refused") }
            return from < into ? .fits : .mayBeRefused("larger values are refused")
        }
        if target.name == "numeric" {
            guard !target.modifiers.isEmpty else { return .fits }
            return numeric(ModifiedType("numeric", from.map { [$0, 0] } ?? []), target)
        }
        let exact = target.name == "float4" ? 6 : 15
        if let from, from <= exact { return .fits }
        if source.name == "float4" { return .fits }
        return .changes("digits behind the \(exact)th are lost")
    }

    /// Nil for a type with fractions.
    private static func integerDigits(_ type: ModifiedType) -> Int? {
        if type.name == "numeric" {
            let scale = type.modifiers.count > 1 ? type.modifiers[1] : 0
            return scale == 0 ? type.modifiers.first : nil
        }
        return type.name == "oid" ? 10 : integers[type.name]
    }

    private static func intoText(_ source: ModifiedType, _ target: ModifiedType) -> TypeFit {
        let limit = target.name == "name" ? 63 : target.modifiers.first ?? 1
        if target.name == "xml" { return .mayBeRefused("a text may be no XML") }
        let width =
            ["varchar", "bpchar"].contains(source.name)
            ? source.modifiers.first : source.name == "name" ? 63 : widths[source.name]
        guard let width, width <= limit else {
            return target.name == "name"
                ? .changes("longer values are cut off") : .mayBeRefused("longer values are refused")
        }
        return .fits
    }

    private static func timesFit(_ source: ModifiedType, _ target: ModifiedType) -> TypeFit? {
        switch (source.name, target.name) {
        case ("date", "timestamp"): return .fits
        case ("timestamptz", "timestamp"): return .changes("it is the time in UTC, without a zone")
        case ("timestamp", "timestamptz"), ("date", "timestamptz"):
            return .changes("it is taken for a time in UTC")
        case ("timestamp", "date"), ("timestamptz", "date"): return .changes("the time is cut off")
        default: return nil
        }
    }
}
