"""规则何时运行。"""

from .. import Text

TEXTS: dict[str, Text] = {
    "schedule.bandwidth": Text(
        "规则或其灾备机的带宽限制当前为 0，下一次运行正在等待。",
        "该时间段结束后即开始运行。如需提前运行，请修改带宽时间段。"),
    "schedule.zone": Text(
        "没有名为 {zone!r} 的时区。",
        "请使用 IANA 数据库中的名称，例如 Europe/Berlin、Asia/Shanghai 或 UTC。"),
    "schedule.field": Text(
        "策略类型“{kind}”没有 {field} 这一项。",
        "请去掉 {field}，或选择含有该项的策略类型。"),
    "schedule.interval": Text(
        "两次任务开始之间的间隔时间须在 {smallest} 到 {largest} 秒之间。",
        "请给出该范围内的间隔；最短间隔取决于源平台。"),
    "schedule.no-start-time": Text(
        "策略类型“{kind}”需要开始时间。", "请按 HH:MM 给出，例如 02:30。"),
    "schedule.time": Text(
        "{value!r} 不是开始时间。", "请按 HH:MM 给出，从 00:00 到 23:59。"),
    "schedule.weekdays": Text(
        "每周策略需要指定星期，且每天只能出现一次。",
        "请给出一天或多天：1 为星期一，7 为星期日。"),
    "schedule.day": Text(
        "每月策略需要指定日期，1 到 31。",
        "请给出月中的日期；没有这一天的月份在最后一天运行。"),
}
