import Testing
import WeirConfig
import WeirCore

@testable import weir

/// What holds of every connector that is linked in.
struct RegistryTests {
    @Test func everyDescriptorIsSound() {
        #expect(ConfigLoader(descriptors: connectors).descriptorFaults() == [])
    }

    @Test func everyErrorCodeIsExplainedOnce() {
        let names = ExplainCommand.allCodes.map(\.name)
        #expect(Set(names).count == names.count)
        for code in ExplainCommand.allCodes {
            #expect(!code.meaning.isEmpty && !code.remedy.isEmpty, "\(code.name)")
            #expect(code.name.contains("."), "\(code.name)")
        }
    }

    @Test func everyErrorCodeThatIsMadeIsExplained() throws {
        let explained = Set(ExplainCommand.allCodes.map(\.name))
        for file in try SourceFile.all(in: ["Sources", "connectors"])
        where !file.path.contains("WeirTesting") {
            for match in file.text.matches(of: /ErrorCode\(\s*"([^"]*)"/) {
                #expect(explained.contains(String(match.1)), "\(file.path): \(match.1)")
            }
        }
    }

    @Test func noConnectorHasMoreThanTwentyKeys() {
        for connector in connectors {
            for fields in [connector.source?.fields, connector.sink?.fields] {
                #expect((fields?.count ?? 0) <= 20, "\(connector.type)")
            }
        }
    }
}
