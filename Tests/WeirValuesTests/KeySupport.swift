import WeirCore
import WeirJSON
import WeirValues

/// The plain text of one value; nil unless something was written.
func plain(
    _ path: String, _ cell: Cell, _ type: ColumnType
) -> (bytes: [UInt8]?, outcome: PlainRenderer.Outcome)? {
    let schema = TableSchema.test([("c", type)])
    guard let reference = FieldPath(path)?.resolve(in: schema) else { return nil }
    var batch = TestBatch()
    batch.add(.insert, schema, after: [cell])
    let sealed = batch.seal()
    var renderer = PlainRenderer()
    var writer = JSONWriter(capacity: 0)
    let outcome = unsafe sealed.arena.withUnsafeBytes { arena in
        unsafe sealed.values.withUnsafeBufferPointer { values in
            let view = unsafe BatchView(arena: arena, values: values)
            let image = sealed.events[0].after
            return renderer.append(reference, of: image, in: view, into: &writer)
        }
    }
    let bytes = unsafe writer.withBytes { unsafe Array($0) }
    return (outcome == .written ? bytes : nil, outcome)
}

/// The keys of rows, in order; nil where the outcome was another than `written`.
func keys(
    _ template: KeyTemplate, _ schema: TableSchema, _ rows: [[Cell]]
) throws -> [[UInt8]?] {
    var batch = TestBatch()
    for row in rows { batch.add(.insert, schema, after: row) }
    let sealed = batch.seal()
    let compiled = try template.compile(for: schema)
    var renderer = PlainRenderer()
    var writer = JSONWriter(capacity: 0)
    return unsafe sealed.arena.withUnsafeBytes { arena in
        unsafe sealed.values.withUnsafeBufferPointer { values in
            let view = unsafe BatchView(arena: arena, values: values)
            return sealed.events.map { event in
                writer.removeAll()
                let outcome = compiled.append(
                    row: event.after, in: view, using: &renderer, into: &writer)
                return outcome == .written ? unsafe writer.withBytes { unsafe Array($0) } : nil
            }
        }
    }
}

/// A table of text columns `a`, `b`, `c`.
let letters = TableSchema.test([("a", .text), ("b", .text), ("c", .text)])

extension KeyTemplate {
    func matches(_ key: [UInt8]) -> Bool { unsafe key.withUnsafeBytes { unsafe matches($0) } }

    func sideKey(of key: [UInt8]) -> [UInt8] {
        var writer = JSONWriter(capacity: 0)
        unsafe key.withUnsafeBytes { unsafe appendSideKey(of: $0, into: &writer) }
        return unsafe writer.withBytes { unsafe Array($0) }
    }
}

/// The slot of a key as Redis Cluster's specification defines it: CRC16 (XMODEM) of what is
/// between the first `{` and the next `}`, or of the whole key when that is nothing.
func slot(of key: [UInt8]) -> Int {
    var hashed = key[...]
    if let open = key.firstIndex(of: UInt8(ascii: "{")),
        let close = key[(open + 1)...].firstIndex(of: UInt8(ascii: "}")), close > open + 1
    {
        hashed = key[(open + 1)..<close]
    }
    var crc: UInt16 = 0
    for byte in hashed {
        crc ^= UInt16(byte) << 8
        for _ in 0..<8 { crc = crc & 0x8000 == 0 ? crc << 1 : crc << 1 ^ 0x1021 }
    }
    return Int(crc) % 16384
}

/// What Redis's `stringmatchlen` makes of a pattern without sets: `*`, `?` and `\`.
func globMatches(_ pattern: ArraySlice<UInt8>, _ text: ArraySlice<UInt8>) -> Bool {
    guard let first = pattern.first else { return text.isEmpty }
    switch first {
    case UInt8(ascii: "*"):
        return (text.startIndex...text.endIndex).contains {
            globMatches(pattern.dropFirst(), text[$0...])
        }
    case UInt8(ascii: "?"):
        return !text.isEmpty && globMatches(pattern.dropFirst(), text.dropFirst())
    case UInt8(ascii: "\\") where pattern.count > 1:
        let rest = pattern.dropFirst()
        return text.first == rest.first && globMatches(rest.dropFirst(), text.dropFirst())
    default:
        return text.first == first && globMatches(pattern.dropFirst(), text.dropFirst())
    }
}
