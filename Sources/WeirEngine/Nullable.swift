/// An optional field of a document that is always there: JSON's null when it is not known.
@propertyWrapper
package struct Nullable<Value: Codable & Sendable>: Codable, Sendable {
    package var wrappedValue: Value?

    package init(wrappedValue: Value?) { self.wrappedValue = wrappedValue }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        wrappedValue = container.decodeNil() ? nil : try container.decode(Value.self)
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        if let wrappedValue {
            try container.encode(wrappedValue)
        } else {
            try container.encodeNil()
        }
    }
}

extension Nullable: Equatable where Value: Equatable {}

/// What a document written before the field was added holds in its place.
package protocol Absent: Codable {
    static var absent: Self { get }
}

extension Bool: Absent {
    package static var absent: Bool { false }
}

extension Array: Absent where Element: Codable {
    package static var absent: [Element] { [] }
}

/// A field that was added to a document later: one of an earlier version lacks it.
@propertyWrapper
package struct Later<Value: Absent & Sendable>: Codable, Sendable {
    package var wrappedValue: Value

    package init(wrappedValue: Value) { self.wrappedValue = wrappedValue }

    package init(from decoder: any Decoder) throws {
        wrappedValue = try decoder.singleValueContainer().decode(Value.self)
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(wrappedValue)
    }
}

extension KeyedDecodingContainer {
    /// A document of an earlier version lacks the field.
    package func decode<Value>(_ type: Later<Value>.Type, forKey key: Key) throws -> Later<Value> {
        try decodeIfPresent(type, forKey: key) ?? Later(wrappedValue: Value.absent)
    }

    /// A document of another version may lack the field.
    package func decode<Value>(
        _ type: Nullable<Value>.Type, forKey key: Key
    ) throws -> Nullable<Value> {
        try decodeIfPresent(type, forKey: key) ?? Nullable(wrappedValue: nil)
    }
}
