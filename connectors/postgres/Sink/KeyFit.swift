import WeirCore

/// Whether keys of the source that differ stay different in a column of the target, where rows are
/// told apart by them. Pure.
enum KeyFit: Equatable {
    case apart
    /// Two keys may become one row.
    case meet(String)
    /// They may where texts are other spellings of one value.
    case mayMeet(String)

    private static let texts: Set<String> = ["text", "varchar", "bpchar", "citext", "name"]
    private static let integers: Set<String> = ["int2", "int4", "int8", "oid"]
    private static let stamps: Set<String> = ["timestamp", "timestamptz"]
    private static let clocks: Set<String> = ["time", "timetz"]

    /// - Parameters:
    ///   - source: nil for a value inside a document, which may be a text.
    ///   - isLoose: the collation of each side takes texts that differ for equal.
    init(
        _ source: ModifiedType?, isLoose: (source: Bool, target: Bool), into target: ModifiedType
    ) {
        guard source.map({ $0.isArray == target.isArray }) ?? !target.isArray else {
            self = .apart
            return
        }
        let isText = source.map { Self.texts.contains($0.name) } ?? true
        if isText, let fit = Self.ofTexts(source, isLoose, target) {
            self = fit
            return
        }
        self = source.map { Self.ofValues($0, target) } ?? .apart
    }

    private static func ofTexts(
        _ source: ModifiedType?, _ isLoose: (source: Bool, target: Bool), _ target: ModifiedType
    ) -> KeyFit? {
        guard texts.contains(target.name) || target.name == "char" else {
            // A document's value is written as it is, and what meets there is documented.
            return source == nil
                ? .apart : .mayMeet("texts that differ may be one value of that type")
        }
        if target.name == "citext", source?.name != "citext" {
            return .meet("it takes letters of either case for the same")
        }
        if isLoose.target, !isLoose.source {
            return .meet("its collation takes texts that differ for equal")
        }
        if target.name == source?.name, target.name != "varchar" { return .apart }
        switch target.name {
        case "bpchar": return .meet("blanks at the end do not count there")
        case "name": return .meet("what is longer than 63 bytes is cut off")
        case "char": return .meet("only the first byte is kept")
        case "varchar":
            guard let limit = target.modifiers.first, source?.name != "bpchar",
                source?.name == "varchar" ? (source?.modifiers.first ?? .max) > limit : true
            else { return .apart }
            return .mayMeet(
                "blanks behind the \(limit)th character are cut off, other longer values refused")
        default: return .apart
        }
    }

    private static func ofValues(_ source: ModifiedType, _ target: ModifiedType) -> KeyFit {
        switch target.name {
        case "float4", "float8": return intoFloat(source, digits: target.name == "float4" ? 6 : 15)
        case "numeric": return intoNumeric(source, target)
        case "money": return source.name == "money" ? .apart : .meet("it is rounded")
        case "char": return source.name == "char" ? .apart : .meet("only the first byte is kept")
        case "date":
            return stamps.contains(source.name) ? .meet("the time is cut off") : .apart
        case "time", "timetz", "timestamp", "timestamptz", "interval":
            return intoTime(source, target)
        default: return .apart
        }
    }

    private static func intoFloat(_ source: ModifiedType, digits: Int) -> KeyFit {
        let exact: Int? =
            switch source.name {
            case "float4": 6
            case "float8": 15
            case "int2": 5
            case "int4": 10
            case "int8", "oid": 19
            case "numeric": source.modifiers.first ?? .max
            default: nil
            }
        guard let exact, exact > digits else { return .apart }
        return .meet("digits behind the \(digits)th are lost")
    }

    private static func intoNumeric(_ source: ModifiedType, _ target: ModifiedType) -> KeyFit {
        guard !target.modifiers.isEmpty else { return .apart }
        let scale = target.modifiers.count > 1 ? target.modifiers[1] : 0
        let own: Int
        switch source.name {
        case _ where integers.contains(source.name): own = 0
        case "numeric" where !source.modifiers.isEmpty:
            own = source.modifiers.count > 1 ? source.modifiers[1] : 0
        case "numeric", "float4", "float8", "money": own = .max
        default: return .apart
        }
        return own <= scale ? .apart : .meet("it is rounded to \(scale) digits after the point")
    }

    private static func intoTime(_ source: ModifiedType, _ target: ModifiedType) -> KeyFit {
        let (from, into) = (source.name, target.name)
        guard stamps.contains(from) || clocks.contains(from) || from == "interval" else {
            return .apart
        }
        if clocks.contains(into), stamps.contains(from) { return .meet("the date is cut off") }
        if into == "time", from == "timetz" { return .meet("the zone is cut off") }
        // Of an interval the fields may be limited too.
        if into == "interval", target.modifiers.isEmpty { return .apart }
        return (source.modifiers.first ?? 6) <= (target.modifiers.first ?? 6)
            ? .apart : .meet("fractions of a second are rounded")
    }
}
