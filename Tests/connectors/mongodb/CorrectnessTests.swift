import Foundation
import Testing

/// The page that lists what the source gets right says nothing that no test shows.
struct CorrectnessTests {
    private static let tests = URL(filePath: #filePath).deletingLastPathComponent()
    private static let page = tests.appending(
        path: "../../../connectors/mongodb/CORRECTNESS.md")

    @Test func everyItemNamesTestsThatExist() throws {
        let text = try String(contentsOf: Self.page, encoding: .utf8)
        let items = text.split(separator: "\n**").dropFirst()
        #expect(items.count > 15)
        for item in items {
            let names = item.matches(of: /`(\w+Tests)\.(\w+)`/)
            #expect(!names.isEmpty, "\(item.prefix(40))")
            for name in names {
                let file = Self.tests.appending(path: "\(name.1).swift")
                let source = try String(contentsOf: file, encoding: .utf8)
                #expect(source.contains("func \(name.2)("), "\(name.0)")
            }
        }
    }

    @Test func everyItemThatATestCitesIsListed() throws {
        let text = try String(contentsOf: Self.page, encoding: .utf8)
        let listed = Set(text.matches(of: /\n\*\*(\d+)\./).map(\.1))
        for file in try FileManager.default.contentsOfDirectory(
            at: Self.tests, includingPropertiesForKeys: nil)
        where file.pathExtension == "swift" {
            let source = try String(contentsOf: file, encoding: .utf8)
            for cited in source.matches(of: /"CORRECTNESS ([\d, ]+):/) {
                for number in cited.1.split(separator: ", ") {
                    #expect(listed.contains(number), "\(number) in \(file.lastPathComponent)")
                }
            }
        }
    }
}
