import Testing
import WeirCore
import WeirValues

@testable import WeirRedisSink

/// What an update tells about the key a document had, without any server.
struct KeyFieldsTests {
    private func mayHaveChanged(_ template: String, by changes: Document?) throws -> Bool {
        // Whatever the sink makes of it, it is a template.
        _ = try KeyTemplate(template)
        var batch = BatchBuilder(reusing: EventBatch(), eventLimit: 1, byteLimit: 1 << 16)
        var values: [Value] = []
        for bytes in [Array("82".utf8), changes?.bytes ?? [], []] {
            let start = unsafe bytes.withUnsafeBytes { unsafe batch.append($0) }
            values.append(
                bytes.isEmpty
                    ? .null
                    : Value(
                        form: values.isEmpty ? .text : .bson,
                        bytes: Slice(start: start, count: bytes.count)))
        }
        for value in values { batch.append(value) }
        let event = Event(
            operation: .update, table: 0, commit: 1, ordinal: 0, transaction: 0, change: 1,
            commitMicros: 0, details: Slice(start: 0, count: 3))
        let sealed = batch.seal(resume: nil, end: nil)
        return sealed.withView { view in
            KeyFields(template).mayHaveChanged(by: event, in: view, .documents)
        }
    }

    @Test(arguments: [
        ("t:{tenant_id}:{_id}", "stock", false), ("t:{tenant_id}:{_id}", "tenant_id", true),
        ("t:{tenant_id}:{_id}", "tenant_id.a", true), ("t:{tenant_id}:{_id}", "tenant", false),
        ("t:{tenant_id}:{_id}", "tenant_ids", false), ("t:{tenant_id}:{_id}", "", false),
        ("t:{tenant_id}:{_id}", "a.tenant_id", false), ("n:{name.en}", "name", true),
        ("n:{name.en}", "name.en", true), ("n:{name.en}", "name.en.short", true),
        ("n:{name.en}", "name.my", false), ("n:{name.en}", "name.english", false),
        ("v:{variants.0.sku}", "variants", true), ("v:{variants.0.sku}", "variants.0", true),
        ("v:{variants.0.sku}", "variants.1.sku", false), ("{{{a}}}:{b}", "a", true),
        ("{{{a}}}:{b}", "b", true), ("{{x}}{b}", "x", false),
        ("x{{y{a}}}", "a", true), ("x{{y{a}}}", "y", false), ("w:{$}", "anything", true),
        (#"p:{"price.usd"}"#, "price.usd", true), (#"p:{"price.usd"}"#, "price", true),
        (#"p:{"price.usd"}"#, "price.eur", false),
        ("ကု:{ကုဒ်}", "ကုဒ်", true), ("ကု:{ကုဒ်}", "ကု", false),
    ])
    func names(template: String, name: String, expected: Bool) throws {
        for changes in [Changes.updated(name), .removed(name), .truncated(name)] {
            #expect(
                try mayHaveChanged(template, by: changes.document) == expected,
                "\(template), \(changes)")
        }
        let later = Changes(updated: ["z", name], removed: ["y"], truncated: ["x1"])
        #expect(try mayHaveChanged(template, by: later.document) == expected)
    }

    @Test func whatIsNotToldMayHaveChanged() throws {
        let template = "t:{tenant_id}"
        #expect(try mayHaveChanged(template, by: nil), "a replacement")
        #expect(try mayHaveChanged(template, by: .text([1, 2, 3])), "no BSON")
        #expect(try mayHaveChanged(template, by: ["movedFields": ["a"]]), "a newer server")
        #expect(try mayHaveChanged(template, by: ["removedFields": [1]]))
        #expect(try mayHaveChanged(template, by: ["truncatedArrays": ["a"]]))
        #expect(
            try !mayHaveChanged(
                template,
                by: ["updatedFields": ["a.0": 1], "disambiguatedPaths": ["a.0": ["a", "0"]]]))
        #expect(try !mayHaveChanged(template, by: ["updatedFields": [:], "removedFields": nil]))
    }
}
