import Foundation

/// The page of a connector that lists what it gets right, each item with the tests that show it.
package struct CorrectnessPage {
    private let tests: URL
    private let text: String

    /// - Parameter testFile: a file in the folder of the connector's tests, which has the
    ///   connector's name.
    package init(testFile: String = #filePath) throws {
        tests = URL(filePath: testFile).deletingLastPathComponent()
        let page = "../../../connectors/\(tests.lastPathComponent)/CORRECTNESS.md"
        text = try String(contentsOf: tests.appending(path: page), encoding: .utf8)
    }

    /// The numbers of its items.
    package var items: Set<Substring> { Set(text.matches(of: /\n\*\*(\d+)\./).map(\.1)) }

    /// Items that name no test, and names that no test has.
    package func unshown() throws -> [String] {
        var unshown: [String] = []
        for item in text.split(separator: "\n**").dropFirst() {
            let names = item.matches(of: /`(\w+Tests)\.(\w+)`/)
            if names.isEmpty { unshown.append(String(item.prefix(40))) }
            for name in names {
                let file = tests.appending(path: "\(name.1).swift")
                let source = try String(contentsOf: file, encoding: .utf8)
                if !source.contains("func \(name.2)(") { unshown.append(String(name.0)) }
            }
        }
        return unshown
    }

    /// Numbers that a test cites and no item has.
    package func unlisted() throws -> [String] {
        let items = self.items
        var unlisted: [String] = []
        for file in try FileManager.default.contentsOfDirectory(
            at: tests, includingPropertiesForKeys: nil)
        where file.pathExtension == "swift" {
            let source = try String(contentsOf: file, encoding: .utf8)
            for cited in source.matches(of: /"CORRECTNESS ([\d, ]+):/) {
                unlisted += cited.1.split(separator: ", ").filter { !items.contains($0) }
                    .map { "\($0) in \(file.lastPathComponent)" }
            }
        }
        return unlisted
    }
}
