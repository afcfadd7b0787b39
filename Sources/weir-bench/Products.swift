import CLibMongoC
import WeirTesting

/// The documents that the MongoDB cases write: nested, with texts in three scripts, 650 bytes of
/// BSON each.
enum Products {
    static let byteCount = 650

    /// The documents 0 to `count`, the same in every run, `byteCount` bytes each.
    static func insert(_ count: Int, into collection: String, _ shell: MongoShell) async throws {
        // Widths are fixed, so one speaks for all.
        _ = try bson(count - 1)
        try await shell.insert(count: count, into: collection, json: json)
    }

    /// Changes the documents 0 to `count`, a multiple of `size`, with commands for so many.
    static func update(
        _ count: Int, by size: Int, in collection: String, _ shell: MongoShell
    ) async throws {
        for start in stride(from: 0, to: count, by: size) {
            let keys = #"{"$gte": \#(key(start)), "$lt": \#(key(start + size))}"#
            let change = """
                {"$inc": {"stock": 1, "variants.1.stock": 3},
                 "$set": {"updated_at": {"$date": "2026-11-21T02:03:04.567Z"}}}
                """
            let found = try await shell.update(#"{"_id": \#(keys)}"#, change, in: collection, .many)
            guard found == size else {
                throw TestingError("\(found) documents were updated instead of \(size)")
            }
        }
    }

    /// One document as BSON.
    static func bson(_ index: Int) throws -> [UInt8] {
        var problem = bson_error_t()
        var text = json(index)
        let document = text.withUTF8 { bytes in
            unsafe bson_new_from_json(bytes.baseAddress, bytes.count, &problem)
        }
        guard let document = unsafe document else {
            throw TestingError("a document is not Extended JSON: \(text)")
        }
        defer { unsafe bson_destroy(document) }
        let bytes = unsafe Array(
            UnsafeBufferPointer(start: bson_get_data(document), count: weir_bson_length(document)))
        guard bytes.count == byteCount else {
            throw TestingError("a document has \(bytes.count) bytes instead of \(byteCount)")
        }
        return bytes
    }

    private static func key(_ index: Int) -> String {
        #"{"$oid": "6740\#(digits(index, 20))"}"#
    }

    private static func json(_ index: Int) -> String {
        let number = digits(index, 8)
        return """
            {"_id": \(key(index)), "tenant": "tenant-\(digits(index % 97, 4))",
             "name": {"en": "Product number \(number), blue", "my": "ကုန်ပစ္စည်း အမှတ် \(number)",
                "de": "Größe und Maß \(number)"},
             "price": \(index % 1_000 + 1).\(digits(index % 100, 2)), "stock": \(index % 100),
             "active": true, "tags": ["red", "sale", "new-\(digits(index % 7, 2))"],
             "variants": [
                {"sku": "SKU-\(number)-S", "color": "navy", "price": 12.5, "stock": \(index % 7)},
                {"sku": "SKU-\(number)-L", "color": "teal", "price": 14.0, "stock": \(index % 9)}],
             "created_at": {"$date": "2026-01-01T00:00:\(digits(index % 60, 2))Z"},
             "updated_at": {"$date": "2026-02-01T10:20:\(digits(index % 60, 2)).\
            \(digits(index % 999 + 1, 3))Z"},
             "description": "\(description)"}
            """
    }

    private static let description =
        "Jacket for wind and rain with taped seams, two pockets and a hood that rolls away. "
        + "Gift wrap, leave at door. Weatherproof, \\\"quotes\\\", and a line\\nbreak."

    private static func digits(_ number: Int, _ width: Int) -> String {
        let text = String(number)
        return String(repeating: "0", count: max(0, width - text.utf8.count)) + text
    }
}
