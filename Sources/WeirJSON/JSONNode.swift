/// A parsed JSON value and the bytes it was written in.
package struct JSONNode: Sendable, Equatable {
    /// From the first byte of the value to the one after its last: quotes and brackets included.
    package let span: SourceSpan
    package let value: Value

    package enum Value: Sendable, Equatable {
        /// Every member in the order written, duplicate keys included: the validator reports them.
        case object([Member])
        case array([JSONNode])
        case string(String)
        /// The number as written. It keeps every digit; whoever needs it as a number converts it.
        case number(String)
        case bool(Bool)
        case null
    }

    package struct Member: Sendable, Equatable {
        package let key: String
        /// The key in its quotes.
        package let keySpan: SourceSpan
        package let value: JSONNode

        package init(key: String, keySpan: SourceSpan, value: JSONNode) {
            self.key = key
            self.keySpan = keySpan
            self.value = value
        }
    }

    package init(span: SourceSpan, value: Value) {
        self.span = span
        self.value = value
    }
}
