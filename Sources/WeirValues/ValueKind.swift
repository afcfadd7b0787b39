package import WeirCore

/// How numbers that a JavaScript reader cannot keep are shown: the keys `int64` and `numeric`.
package struct ValueOptions: Sendable, Equatable {
    package let int64AsString: Bool
    package let numericAsString: Bool

    package init(int64AsString: Bool = false, numericAsString: Bool = false) {
        self.int64AsString = int64AsString
        self.numericAsString = numericAsString
    }
}

/// What rendering needs to know of a column's type, options applied: three bytes, no reference.
package struct ValueKind: Sendable, BitwiseCopyable, Equatable {
    package enum Shape: UInt8, Sendable, BitwiseCopyable {
        case scalar, literal, vector
    }

    /// The class of the value, or of an array's elements.
    let valueClass: TypeClass
    let shape: Shape
    /// Between the elements of a literal.
    let delimiter: UInt8

    package init(_ type: ColumnType, options: ValueOptions = ValueOptions()) {
        switch type.valueClass {
        case .int64 where options.int64AsString, .numeric where options.numericAsString:
            valueClass = .text
        default:
            valueClass = type.valueClass
        }
        switch type.array {
        // Elements without a rule are safer in the one text the source wrote.
        case _ where type.valueClass == .opaque: (shape, delimiter) = (.scalar, 0)
        case .scalar: (shape, delimiter) = (.scalar, 0)
        case .vector: (shape, delimiter) = (.vector, UInt8(ascii: " "))
        case .literal(let separator): (shape, delimiter) = (.literal, separator)
        }
    }
}
