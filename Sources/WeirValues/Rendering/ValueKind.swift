package import WeirCore

/// How values are shown whose JSON is a matter of taste: the keys `int64`, `numeric` and
/// `documents` of a sink.
package struct ValueOptions: Sendable, Equatable {
    package let int64AsString: Bool
    package let numericAsString: Bool
    package let documents: DocumentMode

    package init(
        int64AsString: Bool = false, numericAsString: Bool = false,
        documents: DocumentMode = .relaxed
    ) {
        self.int64AsString = int64AsString
        self.numericAsString = numericAsString
        self.documents = documents
    }

    /// For sinks that write no numbers of their own.
    package static let documentsField = ConfigField(
        "documents", .choice(DocumentMode.allCases.map(\.rawValue)),
        "How documents of MongoDB look: relaxed and canonical are Extended JSON v2, plain is JSON "
            + "without type wrappers.",
        default: #""relaxed""#)

    /// The descriptors of all three.
    package static let fields: [ConfigField] = [
        ConfigField(
            "int64", .choice(["number", "string"]),
            "How eight-byte integers look in JSON; JavaScript readers lose digits of large ones.",
            default: #""number""#),
        ConfigField(
            "numeric", .choice(["number", "string"]),
            "How numeric values look in JSON; readers that use floating point lose digits.",
            default: #""number""#),
        documentsField,
    ]

    /// Reads them; a key that a sink does not have counts as its default.
    package init(_ values: ConfigValues) {
        self.init(
            int64AsString: values.string("int64") == "string",
            numericAsString: values.string("numeric") == "string",
            documents: DocumentMode(rawValue: values.string("documents") ?? "") ?? .relaxed)
    }
}

/// What rendering needs to know of a column's type, options applied: four bytes, no reference.
package struct ValueKind: Sendable, BitwiseCopyable, Equatable {
    package enum Shape: UInt8, Sendable, BitwiseCopyable {
        case scalar, literal, vector
    }

    /// The class of the value, or of an array's elements.
    let valueClass: TypeClass
    let shape: Shape
    /// Between the elements of a literal.
    let delimiter: UInt8
    /// Of class `document`.
    let documents: DocumentMode

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
        documents = options.documents
    }
}
