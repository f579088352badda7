"""控制机、命令行与客户端的文本。"""

from .. import Text

TEXTS: dict[str, Text] = {
    # --- 输入 ----------------------------------------------------------------------------------
    "input.invalid": Text("请求中有不正确的字段：{summary}。", "请更正所列字段。"),
    "input.too-large": Text("请求超过 {largest} 字节。", "请减少一次发送的内容。"),
    "input.name-length": Text("{field} 的长度不正确。", "请使用 1 到 {largest} 个字符。"),
    "input.name-characters": Text(
        "{field} 中有不允许的字符：{found}。",
        "请使用字母、汉字、数字、空格和 . _ - ( )，并以字母、汉字或数字开头。"),
    "input.name-like-id": Text(
        "{field} 看起来像标识（8 位十六进制数）。", "请另取一个。"),
    "input.range": Text("{field} 超出范围。", "请使用 {smallest} 到 {largest} 之间的值。"),
    "input.secret-source": Text(
        "没有给出密码，也没有可供询问的终端。",
        "请用 {option} 指定文件，或设置 {variable}。"),
    "input.file": Text("无法读取文件 {path}：{why}。"),
    "api.not-found": Text(
        "此地址没有内容：{path}。", "可用地址见 /api/v1/openapi.json。"),
    "api.method": Text(
        "此地址不支持方法 {method}。", "支持的方法见 /api/v1/openapi.json。"),
    "api.media-type": Text(
        "请求正文的类型为“{found}”，而不是 application/json。",
        "请发送 JSON，并带上请求头 Content-Type: application/json。"),
    "api.unexpected": Text(
        "控制机发生意外错误（编号 {reference}）。", "请在控制机的日志中查找该编号，并报告此问题。"),
    # --- 登录 ----------------------------------------------------------------------------------
    "auth.required": Text("您尚未登录，或会话已结束。", "请运行：hotspare login"),
    "auth.failed": Text("用户名或密码错误。"),
    "auth.too-many": Text("密码错误次数过多。", "请等待 {seconds} 秒。"),
    "auth.role": Text("{user} 是{role}；此操作需要{needed}。", "请联系管理员。"),
    "user.exists": Text("已有用户 {name}。"),
    "user.not-found": Text("没有用户 {name}。"),
    "user.self": Text("不能删除自己。", "请由其他管理员操作。"),
    "user.password-length": Text(
        "密码的长度不正确。", "请使用 {smallest} 到 {largest} 个字符。"),
    # --- 平台与灾备机 --------------------------------------------------------------------------
    "platform.kind": Text("不支持 {kind} 类平台。", "支持：{known}。"),
    "platform.address": Text(
        "平台的地址不正确：{why}。",
        "例如：qemu+ssh://user@host/system 加 --option keyfile=/path，qemu:///system，"
        "或 https://vcenter.example 加 --user。"),
    "platform.exists": Text(
        "该平台已注册，名称为 {name}。", "如需更改地址或选项：hotspare platform edit {name}"),
    "platform.not-found": Text("没有平台 {name}。", "请运行：hotspare platform list"),
    "platform.in-use": Text("平台 {name} 正被规则使用：{rules}。", "请先删除这些规则。"),
    "platform.task-running": Text("该平台有任务正在进行。", "请等待其结束。"),
    "platform.check-failed": Text("平台的检查项 {check} 未通过：{detail}"),
    "platform.not-refreshed": Text(
        "尚未读取平台 {name} 上的内容。", "请运行：hotspare platform refresh {name}"),
    "machine.which": Text("有多台灾备机，或一台也没有：{machines}。", "请指定一台。"),
    "machine.not-found": Text("没有灾备机 {name}。", "请运行：hotspare machine list"),
    # --- 规则 ----------------------------------------------------------------------------------
    "rule.not-found": Text("没有规则 {name}。", "请运行：hotspare rule list"),
    "rule.exists": Text("已有名为 {name} 的规则。", "请另取名称。"),
    "rule.duplicate": Text(
        "{platform} 的虚机 {vm} 已由规则 {rule} 复制。", "请使用该规则，或先将其删除。"),
    "rule.fields": Text("有多项设置不正确：{summary}。", "{help}"),
    "rule.replica-name-taken": Text(
        "目标虚机的名称 {replica} 在 {platform} 上已被占用（规则：{by}）。",
        "请用 --replica-name 另取名称。"),
    "rule.illegal-transition": Text("规则状态为“{state}”，不能接受事件 {event}。"),
    "rule.busy": Text(
        "该规则有任务正在进行（{kind}）。",
        "请等待其结束，或先停止：hotspare rule stop"),
    "rule.looked-at": Text(
        "规则 {name} 的还原点正在被检查（任务 {task}，{kind}）。",
        "请等待其结束，或先停止：hotspare task stop {task}"),
    "rule.in-failback": Text(
        "规则 {name} 正在回切（{state}）。",
        "请先完成：hotspare failback switch {name}，再 commit {name}；"
        "或撤销：hotspare failback undo {name}"),
    "rule.failback-state": Text(
        "规则 {name} 的回切尚未到这一步，或已过这一步（{state}）。",
        "hotspare rule show {name} 会显示现在可以做什么。"),
    "rule.no-failback": Text(
        "规则 {name} 没有回切（{state}）。",
        "请在临时切换时开始：hotspare failback start {name}"),
    "rule.not-stoppable": Text("该规则的任务（{kind}）不能停止。", "请等待其结束。"),
    "rule.not-running": Text("规则 {name} 没有运行，其计划也未启用。",
                             "如需运行：hotspare rule start {name}"),
    "rule.machine-down": Text(
        "规则的灾备机 {machine} 没有应答。", "请启动该灾备机的服务，然后重试。"),
    "rule.no-point": Text(
        "规则 {name} 还没有恢复点。", "请先运行：hotspare rule start {name}"),
    "rule.confirm": Text(
        "确认时输入的名称不是规则 {name} 所保护虚机的名称。", "请输入虚机名称 {vm}。"),
    "rule.point-stands": Text(
        "规则 {name} 当前处于恢复点 {stands}，而不是恢复点 {point}。",
        "不指定恢复点即保留正在运行的虚机，或者先撤销切换：hotspare undo {name}"),
    "rule.not-failed-over": Text("规则 {name} 未处于临时切换。",
                                 "如需从目标虚机运行：hotspare failover {name}"),
    "rule.in-temporary-failover": Text(
        "规则 {name} 处于临时切换，使用恢复点 {point}。",
        "请先撤销切换：hotspare undo {name}"),
    "rule.in-permanent-failover": Text(
        "规则 {name} 已永久切换：其目标虚机现已成为该虚机。", "请创建新规则。"),
    "vm.unknown": Text(
        "上次读取平台 {platform} 时没有虚机 {vm}。",
        "如果是新虚机，请运行：hotspare platform refresh {platform}"),
    "vm.ambiguous": Text(
        "{platform} 上有多台名为 {vm} 的虚机。",
        "请用标识指定：hotspare platform vms {platform}"),
    "vm.unprotectable": Text("虚机 {vm} 不能复制：{reason}", "{help}"),
    "storage.unknown": Text("{platform} 上没有存储 {storage}。", "已知的存储：{known}。"),
    "storage.unusable": Text("{platform} 上的存储 {storage} 不能使用：{reason}", "{help}"),
    "network.unusable": Text("{platform} 上的网络 {network} 不能使用：{reason}", "{help}"),
    "network.unknown": Text("{platform} 上没有网络 {network}。", "已知的网络：{known}。"),
    "rule.no-such-point": Text("规则 {rule} 没有恢复点 {point}。", "现有恢复点：{known}。"),
    # --- 任务 ----------------------------------------------------------------------------------
    "task.not-found": Text("没有任务 {task}。", "请运行：hotspare task list"),
    "task.fenced": Text("代次为 {epoch} 的任务 {task} 现已属于另一台灾备机。"),
    "task.no-failover": Text("任务 {task}（{kind}）不能改变切换状态。"),
    "task.failed": Text("任务失败。", "请运行：hotspare task log {task}"),
    "task.ended": Text("任务结束：{outcome}。"),
    "rule.created": Text("规则由 {user} 创建。"),
    # --- 控制机 --------------------------------------------------------------------------------
    "store.newer": Text(
        "数据库由更新的版本写入（结构版本 {revision}）。",
        "请重新安装该版本；不支持回退。"),
    "server.key-readable": Text("其他用户可以读取密钥文件 {path}。", "请运行：chmod 600 {path}"),
    "server.key-missing": Text(
        "密钥文件 {path} 不见了，但数据库还在。",
        "请从备份中取回密钥文件：没有它，已保存的密码都无法读取。"),
    "server.key-damaged": Text("密钥文件的长度不正确。", "请从备份中取回。"),
    "server.key-wrong": Text(
        "密钥文件与 {owner} 已保存的密码不匹配。", "请从备份中取回正确的密钥文件。"),
    "server.state-dir": Text(
        "状态目录 {path} 不能使用：{why}。", "请用 --state-dir 选择其他目录。"),
    "server.running": Text(
        "已有控制机在状态目录 {path} 上运行。", "请先停止它，或使用其他 --state-dir。"),
    "server.address": Text(
        "不能在地址 {listen} 上监听：{why}。", "请用 --listen 选择其他地址。"),
    # --- 客户端 --------------------------------------------------------------------------------
    "client.no-server": Text(
        "不知道要连接哪台控制机。",
        "请运行：hotspare login --server https://HOST:8443 --ca FILE，或在控制机本机上设置 "
        "HOTSPARE_STATE_DIR。"),
    "client.unreachable": Text(
        "无法连接控制机 {url}：{why}。", "请检查它是否在运行，以及地址是否正确。"),
    "client.untrusted": Text(
        "控制机 {url} 不是受信任的那一台：{why}。",
        "请检查 CA 文件或指纹；控制机的 CA 保存在 STATE_DIR/tls/ca.pem。"),
    "client.answer": Text(
        "无法理解控制机的应答（状态 {status}）。", "请确认对方是同版本的 Hotspare 控制机。"),
    "client.fingerprint": Text(
        "控制机 CA 的指纹是 {found}，与给出的不同。",
        "请不要继续：向控制机的管理者核对指纹。"),
}
