import WeirCore
import WeirJSON
import WeirValues

/// One event of a change stream: where its parts are in its bytes. Pure, and builds nothing.
///
/// https://www.mongodb.com/docs/manual/reference/change-events/
@safe
struct RawEvent {
    enum Kind {
        case insert, update, replace, delete, drop, rename, dropDatabase, invalidate
        /// Of a server newer than this program, or one that was not asked for: never a failure.
        case other
    }

    let bytes: UnsafeRawBufferPointer
    private(set) var kind = Kind.other
    /// The document `_id`, and in the text of its `_data` what follows the cluster time.
    private(set) var token = 0..<0
    private(set) var tail = 0..<0
    private(set) var clusterTime: UInt64 = 0
    /// Milliseconds since 1970; nil from servers before 6.0.
    private(set) var wallMillis: Int64?
    /// The document `{db, coll}` of the collection, and of the one it was renamed to.
    private(set) var namespace = 0..<0
    private(set) var renamedTo = 0..<0
    /// Documents; nil where there is none, or null.
    private(set) var key: Range<Int>?
    private(set) var document: Range<Int>?
    private(set) var documentBefore: Range<Int>?
    private(set) var changes: Range<Int>?
    /// The session of a transaction, and its number there.
    private(set) var session: Range<Int>?
    private(set) var transactionNumber: Int64 = 0

    /// Nil when the bytes are no event: no token of its cluster time, no kind, or no BSON.
    init?(_ bytes: UnsafeRawBufferPointer) {
        guard var cursor = unsafe BSONCursor(bytes) else { return nil }
        unsafe self.bytes = cursor.bytes
        var hasKind = false
        while cursor.next() {
            // Names are told apart by their length first.
            switch cursor.nameRange.count {
            case 2 where cursor.isNamed("ns"): namespace = cursor.valueRange
            case 2 where cursor.isNamed("to"): renamedTo = cursor.valueRange
            case 3 where cursor.isNamed("_id") && cursor.type == .document:
                token = cursor.valueRange
            case 4 where cursor.isNamed("lsid") && cursor.type == .document:
                session = cursor.valueRange
            case 8 where cursor.isNamed("wallTime") && cursor.type == .dateTime:
                wallMillis = unsafe cursor.value.loadUnaligned(as: Int64.self)
            case 9 where cursor.isNamed("txnNumber") && cursor.type == .int64:
                transactionNumber = unsafe cursor.value.loadUnaligned(as: Int64.self)
            case 11 where cursor.isNamed("clusterTime") && cursor.type == .timestamp:
                clusterTime = unsafe cursor.value.loadUnaligned(as: UInt64.self)
            case 11 where cursor.isNamed("documentKey") && cursor.type == .document:
                key = cursor.valueRange
            case 12 where cursor.isNamed("fullDocument") && cursor.type == .document:
                document = cursor.valueRange
            case 13 where cursor.isNamed("operationType") && cursor.type == .string:
                kind = unsafe Self.kind(cursor.value)
                hasKind = true
            case 17 where cursor.isNamed("updateDescription") && cursor.type == .document:
                changes = cursor.valueRange
            case 24
            where cursor.isNamed("fullDocumentBeforeChange") && cursor.type == .document:
                documentBefore = cursor.valueRange
            default: break
            }
        }
        guard hasKind, !cursor.isMalformed, !token.isEmpty,
            let data = unsafe Self.data(of: bytes, token),
            unsafe Self.begins(UnsafeRawBufferPointer(rebasing: bytes[data]), with: clusterTime)
        else { return nil }
        tail = data.dropFirst(ResumeToken.headBytes)
    }

    /// Whether a token's text is `82` and this time, and more.
    private static func begins(_ text: UnsafeRawBufferPointer, with time: UInt64) -> Bool {
        guard text.count > ResumeToken.headBytes, unsafe text[0] == UInt8(ascii: "8"),
            unsafe text[1] == UInt8(ascii: "2")
        else { return false }
        var rest = time
        for index in (2..<ResumeToken.headBytes).reversed() {
            let digit = UInt8(truncatingIfNeeded: rest & 0xF)
            let wanted = digit + (digit < 10 ? UInt8(ascii: "0") : UInt8(ascii: "A") - 10)
            guard unsafe text[index] == wanted else { return false }
            rest >>= 4
        }
        return true
    }

    /// The text of `_data` in a token: hexadecimal digits, which everything behind relies on.
    private static func data(
        of bytes: UnsafeRawBufferPointer, _ token: Range<Int>
    ) -> Range<Int>? {
        guard var cursor = unsafe BSONCursor(UnsafeRawBufferPointer(rebasing: bytes[token])) else {
            return nil
        }
        while cursor.next() {
            // A length, the text, a NUL.
            if cursor.isNamed("_data"), cursor.type == .string {
                let start = token.lowerBound + cursor.valueRange.lowerBound + 4
                let range = start..<(start + cursor.valueRange.count - 5)
                let text = unsafe UnsafeRawBufferPointer(rebasing: bytes[range])
                return unsafe isHex(text) ? range : nil
            }
        }
        return nil
    }

    private static func kind(_ text: UnsafeRawBufferPointer) -> Kind {
        let word = unsafe UnsafeRawBufferPointer(rebasing: text[4..<(text.count - 1)])
        func isWord(_ other: StaticString) -> Bool { unsafe word.isSame(as: other) }
        switch word.count {
        case 6 where isWord("insert"): return .insert
        case 6 where isWord("update"): return .update
        case 6 where isWord("delete"): return .delete
        case 6 where isWord("rename"): return .rename
        case 7 where isWord("replace"): return .replace
        case 4 where isWord("drop"): return .drop
        case 12 where isWord("dropDatabase"): return .dropDatabase
        case 10 where isWord("invalidate"): return .invalidate
        default: return .other
        }
    }
}
