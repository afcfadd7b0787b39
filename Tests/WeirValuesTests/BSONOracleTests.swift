import CLibMongoC
import Testing
import WeirTesting
import WeirValues

/// Random documents, built and read by libbson.
struct BSONOracleTests {
    /// Canonical text is read back as the same bytes. Left out is what has no text of its own: the
    /// payload of NaN, encodings of a Decimal128 beyond the canonical one, options of a regular
    /// expression out of order, indexes of an array that do not count from 0. And what libbson 1.23
    /// cannot read: code and DBPointers in an array, to which it gives names at random, and the
    /// `$` forms of code inside a scope, which it takes for documents.
    @Test(arguments: 0..<8)
    func canonicalTextIsReadBackAsTheSameBytes(seed: UInt64) throws {
        var generator = RandomDocuments(seed: seed, isForRelaxed: false)
        for _ in 0..<400 {
            let bytes = generator.document().bytes
            let (json, note) = rendered(bytes, .canonical)
            try #require(note == .none)
            try #require(!json.contains("\n"))
            let back = try #require(LibraryDocument(json: json), "libbson does not read \(json)")
            #expect(back.bytes == bytes, "\(json)")
        }
    }

    /// Left out is where libbson leaves the specification: doubles that need their fewest digits
    /// found, and dates after the year 9999.
    @Test(arguments: 0..<8)
    func relaxedAndCanonicalTextAreThoseOfLibbson(seed: UInt64) throws {
        var generator = RandomDocuments(seed: 100 + seed, isForRelaxed: true)
        for _ in 0..<400 {
            let made = generator.document()
            let bytes = made.bytes
            #expect(rendered(bytes, .relaxed) == (try #require(made.relaxed), .none))
            #expect(rendered(bytes, .canonical) == (try #require(made.canonical), .none))
        }
    }

    @Test func doublesAreReadBackAsTheSame() throws {
        var generator = SeededGenerator(seed: 64)
        for round in 0..<60_000 {
            let number =
                switch round % 4 {
                case 0: Double(bitPattern: generator.next())
                case 1: Double(Int(generator.next() >> 34)) / 100
                case 2: Double(Int(generator.next() >> 20)) / 1_000_000
                default: Double(generator.next() >> UInt64(generator.below(64))) * 0x1p-20
                }
            guard number.isFinite else { continue }
            let digits = try #require(plainText(.double, littleEndianBytes(number.bitPattern)))
            #expect(Double(digits)?.bitPattern == number.bitPattern || number == 0)
            // The standard library's are the fewest; it writes whole numbers in full too, with a
            // fraction that plain text leaves out.
            let full = number.description
            #expect(digits == (full.hasSuffix(".0") ? String(full.dropLast(2)) : full))
        }
    }
}

/// Makes documents of every type with libbson.
private struct RandomDocuments {
    private var generator: SeededGenerator
    private let isForRelaxed: Bool
    private static let names = [
        "", "a", "_id", "total", "a.b", "Straße", "seven77", "eight888", "a name of many words",
        "日本",
        "q\"uote", "tab\t",
    ]
    private static let texts = [
        "", "x", "A jacket for walks of a day and more.", "naïve café", "Водонепроницаемая куртка",
        "とても良いです", "😀 ok", "line\nbreak", "\"quoted\" \\", "1234567", "12345678",
        "\u{1}\u{1F}\u{7F}",
        "\u{2028}",
    ]

    init(seed: UInt64, isForRelaxed: Bool) {
        generator = SeededGenerator(seed: seed)
        self.isForRelaxed = isForRelaxed
    }

    private mutating func pick(_ list: [String]) -> String { list[generator.below(list.count)] }

    private enum Place {
        case document, array, scope
    }

    mutating func document() -> LibraryDocument { document(depth: 0, .document) }

    private mutating func document(depth: Int, _ place: Place) -> LibraryDocument {
        let made = LibraryDocument()
        for index in 0..<generator.below(depth == 0 ? 12 : 5) {
            append(
                place == .array ? "\(index)" : pick(Self.names), to: made, depth: depth,
                hasCode: isForRelaxed || place == .document)
        }
        return made
    }

    private mutating func append(
        _ name: String, to made: LibraryDocument, depth: Int, hasCode: Bool
    ) {
        let isAppended =
            generator.below(2) == 0
            ? appendCommon(name, to: made)
            : appendOther(name, to: made, depth: depth, hasCode: hasCode)
        precondition(isAppended, "libbson refuses a value")
    }

    private mutating func appendCommon(_ name: String, to made: LibraryDocument) -> Bool {
        let document = unsafe made.pointer
        switch generator.below(8) {
        case 0:
            let text = pick(Self.texts)
            return unsafe bson_append_utf8(document, name, -1, text, Int32(text.utf8.count))
        case 1:
            let number = Int32(truncatingIfNeeded: generator.next())
            return unsafe bson_append_int32(document, name, -1, number)
        case 2:
            let number = Int64(bitPattern: generator.next()) >> Int64(generator.below(64))
            return unsafe bson_append_int64(document, name, -1, number)
        case 3: return unsafe bson_append_double(document, name, -1, double())
        case 4: return unsafe bson_append_bool(document, name, -1, generator.below(2) == 0)
        case 5:
            var id = objectId()
            return unsafe bson_append_oid(document, name, -1, &id)
        case 6:
            return unsafe bson_append_date_time(document, name, -1, date())
        default: return unsafe bson_append_null(document, name, -1)
        }
    }

    private mutating func appendOther(
        _ name: String, to made: LibraryDocument, depth: Int, hasCode: Bool
    ) -> Bool {
        let document = unsafe made.pointer
        let text = pick(Self.texts)
        switch generator.below(hasCode ? 10 : 7) {
        case 0: return unsafe bson_append_undefined(document, name, -1)
        case 1: return unsafe bson_append_minkey(document, name, -1)
        case 2: return unsafe bson_append_maxkey(document, name, -1)
        case 3: return appendBytes(name, to: made)
        case 4:
            let options = ["", "i", "imx"][generator.below(3)]
            return unsafe bson_append_regex(document, name, -1, text, options)
        case 5: return appendInner(name, to: made, depth: depth)
        case 6: return unsafe bson_append_symbol(document, name, -1, text, Int32(text.utf8.count))
        case 7: return unsafe bson_append_code(document, name, -1, text)
        case 8:
            var id = objectId()
            return unsafe bson_append_dbpointer(document, name, -1, text, &id)
        default:
            let scope = self.document(depth: 4, .scope)
            return unsafe bson_append_code_with_scope(document, name, -1, text, scope.pointer)
        }
    }

    private mutating func appendBytes(_ name: String, to made: LibraryDocument) -> Bool {
        let document = unsafe made.pointer
        switch generator.below(3) {
        case 0:
            let bytes = (0..<generator.below(20)).map { _ in UInt8(generator.below(256)) }
            let subtypes: [UInt32] = [0, 1, 2, 3, 4, 5, 6, 0x80]
            let subtype = bson_subtype_t(rawValue: subtypes[generator.below(subtypes.count)])
            return unsafe bson_append_binary(
                document, name, -1, subtype, bytes, UInt32(bytes.count))
        case 1:
            let time = generator.next()
            return unsafe bson_append_timestamp(
                document, name, -1, UInt32(time >> 32), UInt32(truncatingIfNeeded: time))
        default:
            var number = bson_decimal128_t()
            let digits = "\(generator.next())\(generator.next() >> 32)"
            let text = "-\(digits)E\(generator.below(200) - 100)"
            guard unsafe bson_decimal128_from_string(text, &number) else { return false }
            return unsafe bson_append_decimal128(document, name, -1, &number)
        }
    }

    private mutating func appendInner(
        _ name: String, to made: LibraryDocument, depth: Int
    ) -> Bool {
        let document = unsafe made.pointer
        if depth >= 4 { return unsafe bson_append_null(document, name, -1) }
        let isArray = generator.below(2) == 0
        let inner = self.document(depth: depth + 1, isArray ? .array : .document)
        return isArray
            ? unsafe bson_append_array(document, name, -1, inner.pointer)
            : unsafe bson_append_document(document, name, -1, inner.pointer)
    }

    private mutating func double() -> Double {
        switch generator.below(5) {
        case 0: return Double(Int32(truncatingIfNeeded: generator.next()))
        case 1: return Double(Int32(truncatingIfNeeded: generator.next())) / 8
        case 2: return [.infinity, -.infinity, -0.0, 0.0][generator.below(4)]
        default:
            if isForRelaxed { return Double(generator.below(1000)) / 4 }
            let number = Double(bitPattern: generator.next())
            return number.isNaN ? 0.1 : number
        }
    }

    private mutating func date() -> Int64 {
        let any = Int64(bitPattern: generator.next()) >> Int64(generator.below(48))
        return isForRelaxed ? min(any, 253_402_300_799_999) : any
    }

    private mutating func objectId() -> bson_oid_t {
        let bytes = (0..<12).map { _ in UInt8(generator.below(256)) }
        var id = bson_oid_t()
        unsafe bson_oid_init_from_data(&id, bytes)
        return id
    }
}
