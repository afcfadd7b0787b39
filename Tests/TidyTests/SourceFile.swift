import Foundation

/// Where the package stands, also when the tests are built through links to it.
let repository: URL = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath()
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

/// One file of the package.
struct SourceFile {
    /// From the package's folder, such as `Sources/weir/Weir.swift`.
    let path: String
    let text: String
    let lines: [Substring]

    init(_ path: String) throws {
        self.path = path
        text = try String(contentsOf: repository.appendingPathComponent(path), encoding: .utf8)
        lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    }

    /// Files below a folder whose names end in one of these; of generated or hidden ones none.
    static func all(in folders: [String], endings: [String] = [".swift"]) throws -> [SourceFile] {
        var found: [SourceFile] = []
        for folder in folders {
            let root = repository.appendingPathComponent(folder)
            guard let walk = FileManager.default.enumerator(atPath: root.path) else { continue }
            while let name = walk.nextObject() as? String {
                if name.split(separator: "/").contains(where: { $0.hasPrefix(".") }) { continue }
                guard endings.contains(where: name.hasSuffix) else { continue }
                found.append(try SourceFile(folder + "/" + name))
            }
        }
        return found.sorted { $0.path < $1.path }
    }

    /// Folders with code of ours.
    static let code = ["Sources", "connectors", "Tests"]

    var isTest: Bool { path.hasPrefix("Tests/") || path.hasPrefix("Sources/WeirTesting/") }

    /// The modules it imports.
    var imports: [(module: String, line: Int)] {
        lines.enumerated().compactMap { index, line in
            let words = line.split(separator: " ")
            guard let place = words.firstIndex(of: "import"), place + 1 < words.count,
                words[..<place].allSatisfy({ Self.importModifiers.contains(String($0)) })
            else { return nil }
            return (String(words[place + 1]), index + 1)
        }
    }

    private static let importModifiers: Set = [
        "public", "package", "internal", "fileprivate", "private", "@testable", "@preconcurrency",
        "@_exported",
    ]

    /// The lines with comments and the insides of strings blanked out, so that what is left is
    /// code. An approximation that house style makes exact enough: no block comments.
    var code: [String] { parts.map(\.code) }

    /// Per line what is code, and whether a string literal is on it: those cannot be broken.
    var parts: [(code: String, hasString: Bool)] {
        var isInBlock = false
        return lines.map { line in
            var kept = ""
            let hasString = isInBlock || line.contains("\"")
            var isInString = false
            var rest = line
            while let character = rest.first {
                if rest.hasPrefix("\"\"\"") {
                    isInBlock.toggle()
                    rest = rest.dropFirst(3)
                    continue
                }
                if isInBlock {
                    rest = rest.dropFirst()
                    continue
                }
                if character == "\\" && isInString {
                    rest = rest.dropFirst(2)
                    continue
                }
                if character == "\"" {
                    isInString.toggle()
                } else if !isInString {
                    if rest.hasPrefix("//") { break }
                    kept.append(character)
                }
                rest = rest.dropFirst()
            }
            return (kept, hasString)
        }
    }

    /// Functions and initialisers with the number of lines from their keyword to their last brace.
    var functions: [(line: Int, length: Int)] {
        let code = code
        var found: [(line: Int, length: Int)] = []
        for (index, line) in code.enumerated() {
            let words = line.split(whereSeparator: { " (<".contains($0) })
            let isFunction = words.contains { ["func", "init", "init?", "deinit"].contains($0) }
            guard isFunction, !line.contains(".init"), !line.contains("= init") else { continue }
            guard let end = Self.end(of: index, in: code) else { continue }
            found.append((index + 1, end - index + 1))
        }
        return found
    }

    /// The line of the brace that closes the first one opened; nil without a body.
    private static func end(of start: Int, in code: [String]) -> Int? {
        var depth = 0
        var parentheses = 0
        var hasBody = false
        for index in start..<min(start + 400, code.count) {
            for character in code[index] {
                switch character {
                case "(": parentheses += 1
                case ")": parentheses -= 1
                case "{" where parentheses == 0 || hasBody:
                    depth += 1
                    hasBody = true
                case "}" where parentheses == 0 || hasBody:
                    depth -= 1
                    if depth < 0 { return nil }
                    if depth == 0 && hasBody { return index }
                default: break
                }
            }
        }
        return nil
    }
}
